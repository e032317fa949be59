"""Caption decoding: ours against a straightforward decoder over torchscale's BEiT3 (plain_decoder.py).

Both hold the same weights and must find the same captions, or nothing is timed. The weights are random, with the
end token made likely enough that captions end after some ten words, as real ones do. Base at 480 px, beam 3, batch 8,
fp32, our weights packed as in predictions. Calls alternate, seconds are medians, and the ratio is the median of the
rounds' ratios.

Target, for base: at least 3 times as fast.

    python -m tests.benchmarks.decoding --threads 2

Last figures:
    Two cores of an AMD EPYC, torch 2.11.0, idle, 2 rounds: ours 10.6 s, plain 65.3 s (6.17 times); captions of up to 17
    words.
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

import backbones
from backbones.linear import Linear, packed
from backbones.tokenizer import BOS, EOS, PAD
from harness.device import device
from tasks.captioning.beam_search import BeamSearch, Decoder
from tests.benchmarks import peers, timing
from tests.benchmarks.plain_decoder import decode as plain_decode
from tests.benchmarks.report import Report, arguments, surroundings, use_threads

TARGET, TARGET_SIZE = 3.0, "base"
IMAGE_SIZES = {"nano": 64, "base": 480, "large": 480}
END_MARGIN = 1.5
SHARPNESS = 20.0  # of the random head, so that words are likelier than not, as a trained model's are


def build(
    size: str, search: BeamSearch
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], list[list[int]]], nn.Module]:
    """Our decoder and the plain one, over the same random weights, and the modules of ours."""
    config = backbones.resolve(peers.SIZES[size], image_size=IMAGE_SIZES[size])
    first, other = peers.ours(config), peers.torchscale(config)
    peers.vary(first.model)
    peers.copy_weights(first.model, other)
    head = Linear(config.dim, config.vocab_size)
    with torch.no_grad():
        head.weight.mul_(SHARPNESS)
        # Near the largest of all logits, which have this standard deviation: an end comes up every few words.
        deviation = SHARPNESS / 3**0.5
        head.bias[EOS] += (math.sqrt(2 * math.log(config.vocab_size)) - END_MARGIN) * deviation
    for model in (first.model, other.model, head):
        model.to(device()).eval()
    mask = config.vocab_size - 1
    ours = Decoder(first.model, head, search, mask=mask)
    plain_head = nn.Linear(config.dim, config.vocab_size)
    plain_head.load_state_dict(head.state_dict())
    plain_head.to(device())

    def plain(image: Tensor) -> list[list[int]]:
        return plain_decode(other.model, plain_head, image, search, mask=mask)

    return ours, plain, nn.ModuleList([first.model, head])


def words(captions: Sequence[Sequence[int]]) -> list[list[int]]:
    """Captions without special tokens."""
    return [[token for token in caption if token not in (BOS, EOS, PAD)] for caption in captions]


def measure(*, size: str, batch: int, beams: int, length: int, rounds: int) -> Report:
    """Time both decoders, after comparing their captions."""
    search = BeamSearch(beams=beams, max_length=length)
    ours, plain, modules = build(size, search)
    config = replace(backbones.config(peers.SIZES[size]), image_size=IMAGE_SIZES[size])
    image = peers.random_images(config, batch, device=device())
    with torch.inference_mode(), packed(modules):
        mine, theirs = words(ours(image).tolist()), words(plain(image))
        if mine != theirs:
            raise SystemExit(f"The captions differ, so there is nothing to compare: {mine} and {theirs}")
        seconds = timing.interleaved(
            {"ours": lambda: ours(image), "plain": lambda: plain(image)}, rounds=rounds, warmup=0
        )
    ratio = timing.speedup(seconds, "ours", "plain")
    rows = [
        {
            "implementation": name,
            "seconds": median,
            "images/s": batch / median,
            "ours is × faster": None if name == "ours" else ratio,
            f"target ({TARGET_SIZE})": None if name == "ours" else TARGET,
        }
        for name, median in timing.medians(seconds).items()
    ]
    lengths = sorted(len(caption) for caption in mine)
    return Report(
        title=f"Decoding, {size}, {IMAGE_SIZES[size]} px, beam {beams}, batch {batch}: {surroundings(device())}",
        rows=rows,
        notes=[f"Equal captions, of {lengths[0]} to {lengths[-1]} words (limit {length - 2})"],
        missed=[f"{ratio:.2f}, target {TARGET}"] if size == TARGET_SIZE and ratio < TARGET else (),
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = arguments(__doc__)
    parser.add_argument("--size", choices=list(IMAGE_SIZES), default=TARGET_SIZE)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--beams", type=int, default=3)
    parser.add_argument("--length", type=int, default=20, help="tokens of the longest caption")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, help="PyTorch's CPU threads")
    args = parser.parse_args(argv)
    use_threads(args.threads)
    with contextlib.redirect_stdout(sys.stderr):
        report = measure(size=args.size, batch=args.batch, beams=args.beams, length=args.length, rounds=args.rounds)
    return report.show(args.json)


if __name__ == "__main__":
    sys.exit(main())
