"""Evaluating retrieval: encoding each image and each text once, against a pair per caption; and scoring COCO's test.

The official evaluation encodes the image and the text of every caption's row, texts padded to 64 tokens: five times the
images. Both ways go through the same model (base at 384 px, random weights) in the engine's precision, on captions of
six to twenty-two tokens, five an image; their features are compared before anything is timed. The work grows with the
number of images, so a few stand for a split.

Scoring is that of 5,000 images and 25,000 texts with features of 768 numbers, intervals included; memory is that of
its arrays.

Targets: at most a third of the official way's time to encode; scoring in at most 1.5 GiB. The exit status is 1 when
one is missed.

    python -m tests.benchmarks.retrieval --threads 1

Last figures:
    Two cores of an AMD EPYC (AVX-512 with bf16), torch 2.11.0, idle, 8 images: encoding takes 0.214 of the official
    way's time (3.52 s against 16.4 s, bf16); ranks 2.26 s and intervals 0.38 s, 0.19 GiB.
"""

from __future__ import annotations

import contextlib
import sys
import tracemalloc
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

import backbones
from backbones.multiway import Multiway
from harness.device import autocast, device, precision
from tasks.bootstrap import replicates
from tasks.common.text import pad
from tasks.retrieval import metrics
from tasks.retrieval.metrics import ranks
from tasks.retrieval.model import DualEncoder
from tests.benchmarks import timing
from tests.benchmarks.report import Report, arguments, surroundings, use_threads

SIZES = {"nano": "multiway_nano", "base": "beit3_base_patch16_384", "large": "beit3_large_patch16_384"}
CAPTIONS = 5
LENGTHS = (6, 22)  # tokens of a caption, <s> and </s> included
PADDED = 64  # tokens of a text in the official evaluation
TARGETS = {"share of the official time": 1 / 3, "GiB": 1.5}
TOLERANCE = {"fp32": 1e-4, "bf16": 3e-2}  # of a feature's numbers


class Captioned:
    """Random images, and token ids of five captions each, in the images' order."""

    def __init__(self, config: backbones.MultiwayConfig, images: int, where: torch.device) -> None:
        generator = torch.Generator().manual_seed(0)
        side = config.image_size
        self.images = torch.randn(images, 3, side, side, generator=generator).to(where)
        lengths = torch.randint(LENGTHS[0], LENGTHS[1] + 1, (images * CAPTIONS,), generator=generator).tolist()
        self.texts = [torch.randint(3, config.vocab_size, (length,), generator=generator) for length in lengths]


def once_each(model: DualEncoder, data: Captioned, batch: int) -> tuple[Tensor, Tensor]:
    """Our way: features [images, dim] and [texts, dim]."""
    images = [model(image=part)[0] for part in data.images.split(batch)]
    texts = [
        model(**_padded(data.texts[i : i + batch], data.images.device))[1] for i in range(0, len(data.texts), batch)
    ]
    return torch.cat(images), torch.cat(texts)


def row_by_row(model: DualEncoder, data: Captioned, batch: int) -> tuple[Tensor, Tensor]:
    """The official way: a row per caption, of which the first of each image gives the image's feature."""
    owner = torch.arange(len(data.texts), device=data.images.device) // CAPTIONS
    images, texts = [], []
    for first in range(0, len(data.texts), batch):
        rows = slice(first, first + batch)
        text = _padded(data.texts[rows], data.images.device, length=PADDED)
        found = model(image=data.images[owner[rows]], **text)
        images.append(found[0])
        texts.append(found[1])
    return torch.cat(images)[::CAPTIONS], torch.cat(texts)


def _padded(texts: Sequence[Tensor], where: torch.device, *, length: int = 0) -> dict[str, Tensor]:
    # A text of that length, left out again, makes the batch as long.
    batch = pad([*texts, torch.zeros(length, dtype=torch.int64)] if length else texts)
    return {name: tensor[: len(texts)].to(where) for name, tensor in batch.items()}


def measure(*, size: str, images: int, batch: int, rounds: int, gallery: dict[str, int]) -> Report:
    """Time both ways of encoding, then scoring of a gallery: images, texts, dim."""
    where = device()
    chosen = precision("auto", where)
    config = backbones.resolve(SIZES[size])
    torch.manual_seed(0)
    model = DualEncoder(Multiway(config)).to(where).eval()
    data = Captioned(config, images, where)
    with torch.inference_mode(), autocast(chosen, where):
        pairs = zip(once_each(model, data, batch), row_by_row(model, data, batch), strict=True)
        difference = max((ours - theirs).abs().max().item() for ours, theirs in pairs)
        if difference > TOLERANCE[chosen]:
            raise SystemExit(f"The features differ by {difference:.1e}: there is nothing to compare.")
        ways = {
            "once each": lambda: once_each(model, data, batch),
            "a pair per caption": lambda: row_by_row(model, data, batch),
        }
        seconds = timing.interleaved(ways, rounds=rounds, warmup=0)  # the comparison has warmed up
    share = 1 / timing.speedup(seconds, "once each", "a pair per caption")
    scored = score(**gallery)
    gib = scored.peak / 2**30
    medians = timing.medians(seconds)
    rows = [
        _row("encode, once each", medians["once each"], share=share),
        _row("encode, a pair per caption", medians["a pair per caption"]),
        _row("ranks", scored.ranks, gib=gib),
        _row("intervals", scored.intervals),
    ]
    found = {"share of the official time": share, "GiB": gib}
    missed = [
        f"{name}: {found[name]:.3f}, target {target:.3f}" for name, target in TARGETS.items() if found[name] > target
    ]
    return Report(
        title=f"Retrieval, {size}, {config.image_size} px, {chosen}, {images} images: {surroundings(where)}",
        rows=rows,
        notes=[
            f"Largest difference of a feature between the two ways: {difference:.1e}",
            "Scoring: {:,} images, {:,} texts, features of {}".format(*gallery.values()),
        ],
        missed=missed if size != "nano" else (),
    )


def _row(figure: str, seconds: float, *, share: float | None = None, gib: float | None = None) -> dict:
    return {"figure": figure, "seconds": seconds, "share of the official time": share, "peak GiB": gib}


class Scored(NamedTuple):
    """Seconds, and the most bytes that all arrays took at a time, the features included."""

    ranks: float
    intervals: float
    peak: int


def score(*, images: int, texts: int, dim: int) -> Scored:
    tracemalloc.start()
    rng = np.random.default_rng(0)
    features = [rng.standard_normal((count, dim), dtype=np.float32) for count in (images, texts)]
    owner = np.arange(texts) * images // texts
    began = timing.now()
    found = ranks(*features, owner)
    ranked = timing.now()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    replicates(metrics.measure(found, owner), seed=0)
    return Scored(ranked - began, timing.now() - ranked, peak)


def main(argv: Sequence[str] | None = None) -> int:
    parser = arguments(__doc__)
    parser.add_argument("--size", choices=list(SIZES), default="base")
    parser.add_argument("--images", type=int, default=8, help="with five captions each")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--gallery", type=int, nargs=3, default=(5_000, 25_000, 768), metavar=("IMAGES", "TEXTS", "DIM")
    )
    parser.add_argument("--threads", type=int, help="PyTorch's CPU threads")
    args = parser.parse_args(argv)
    use_threads(args.threads)
    options = {"size": args.size, "images": args.images, "batch": args.batch, "rounds": args.rounds}
    with contextlib.redirect_stdout(sys.stderr):
        report = measure(**options, gallery=dict(zip(("images", "texts", "dim"), args.gallery, strict=True)))
    return report.show(args.json)


if __name__ == "__main__":
    sys.exit(main())
