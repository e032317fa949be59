"""A detector's backbone at 1,024 px: attention in windows with relative positions, ours against the naive form.

The naive form makes all scores, adds the bias to them and takes their softmax, as ViTDet's code does. Both attend
with the same weights, and their outputs are compared before anything is timed. "attention" is what happens between
the projections, all layers in turn; "backbone" the whole forward of one image. The peak is the resident memory of a
process of its own that does nothing but our forward.

Targets, for base: attention at least 1.5 times as fast as naive, in both precisions, and a peak under 6 GiB. The
exit status is 1 when one is missed.

    python -m tests.benchmarks.windows --threads 2

Last figures:
    Two cores of an AMD EPYC (AVX-512 with bf16, no AMX), torch 2.11.0, idle, one round:
    fp32: attention 3.0 s against 6.5 s (2.15 times), backbone 6.9 s against 10.5 s (1.53 times);
    bf16: attention 2.5 s against 3.6 s (1.44 times: missed), backbone 4.8 s against 5.9 s (1.23 times);
    peak 2.1 GiB. In bf16 the bias of the scores, which both forms make, takes a third of our time on that machine.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

import backbones
from backbones import MultiwayConfig, windowed
from backbones.windowed import RelativePositions, WindowedMultiway
from tests.benchmarks import child, peers, timing
from tests.benchmarks.report import Report, arguments, surroundings, use_threads

TARGET_SIZE = "base"
FASTER = 1.5
LARGEST_PEAK = 6 * 2**30
TOLERANCE = 1e-3
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def naive_mix(self: RelativePositions, query: Tensor, key: Tensor, value: Tensor, *, grid: tuple[int, int]) -> Tensor:
    """`RelativePositions.mix` by its definition."""
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
    patches = query.unflatten(2, grid)
    rows = windowed._of_distance(self.height, grid[0]).to(query.dtype)
    columns = windowed._of_distance(self.width, grid[1]).to(query.dtype)
    scores = scores.unflatten(2, grid).unflatten(4, grid)
    scores = scores + torch.einsum("bhrcd,rkd->bhrck", patches, rows)[..., None]
    scores = scores + torch.einsum("bhrcd,ckd->bhrck", patches, columns)[..., None, :]
    return scores.flatten(4, 5).flatten(2, 3).softmax(-1) @ value


@contextlib.contextmanager
def naive() -> Iterator[None]:
    """Every windowed transformer computes the naive form meanwhile."""
    ours = RelativePositions.mix
    RelativePositions.mix = naive_mix
    try:
        yield
    finally:
        RelativePositions.mix = ours


def configuration(size: str, image_size: int) -> MultiwayConfig:
    """ViTDet's layout: windows of 14 patches, four layers that attend everywhere."""
    layers = backbones.config(peers.SIZES[size]).layers
    everywhere = tuple((number + 1) * layers // 4 - 1 for number in range(4))
    return backbones.resolve(
        peers.SIZES[size], image_size=image_size, window=14, global_layers=everywhere, final_norm=False
    )


def build(size: str, image_size: int) -> WindowedMultiway:
    torch.manual_seed(0)
    model = WindowedMultiway(configuration(size, image_size)).eval()
    with torch.no_grad():
        for relative in model.relative:
            for table in relative.parameters():
                table.normal_(std=0.1)
    return model


Projected = list[tuple[RelativePositions, Tensor, tuple[int, int]]]


def projected(model: WindowedMultiway, side: int, dtype: torch.dtype) -> Projected:
    """Of each layer: its positions, made-up queries, keys and values, and the sides of what it attends in."""
    config = model.config
    windows = (-(-side // config.window)) ** 2
    layers = []
    for index, relative in enumerate(model.relative):
        everywhere = index in config.global_layers
        extent = side if everywhere else config.window
        shape = (1 if everywhere else windows, config.heads, extent**2, config.dim // config.heads)
        layers.append((relative, torch.randn(3, *shape).to(dtype), (extent, extent)))
    return layers


def attention(layers: Projected) -> None:
    """Computation of all layers between their projections."""
    for relative, (query, key, value), grid in layers:
        relative.mix(query, key, value, grid=grid)


@torch.inference_mode()
def measure(*, size: str, image_size: int, rounds: int) -> Report:
    """Time both forms in both precisions, and take the peak of our forward."""
    model = build(size, image_size)
    image = torch.randn(1, 3, image_size, image_size)
    rows = []
    for precision, dtype in PRECISIONS.items():
        model, image = model.to(dtype), image.to(dtype)
        if dtype is torch.float32:
            apart = difference(model, image)
            if not apart <= TOLERANCE:
                raise SystemExit(f"The forms differ by {apart:.1e} of the largest output: there is nothing to compare.")
        work = {
            "attention": partial(attention, projected(model, image_size // model.config.patch_size, dtype)),
            "backbone": partial(model.maps, image, [model.num_layers - 1]),
        }
        for what, function in work.items():
            seconds = timing.interleaved(
                {"ours": function, "naive": partial(_naively, function)}, rounds=rounds, warmup=1
            )
            median = timing.medians(seconds)
            rows.append(
                {
                    "precision": precision,
                    "what": what,
                    "ours, s": median["ours"],
                    "naive, s": median["naive"],
                    "× faster": timing.speedup(seconds, "ours", "naive"),
                    f"target ({TARGET_SIZE})": FASTER if what == "attention" else None,
                }
            )
    peak = peak_of_forward(size, image_size)
    return Report(
        title=f"Windowed backbone, {size}, {image_size} px, batch 1: {surroundings(torch.device('cpu'))}",
        rows=rows,
        notes=[f"Peak of our fp32 forward: {peak / 2**30:.2f} GiB"],
        missed=missed(rows, peak) if size == TARGET_SIZE else (),
    )


def _naively(function: partial) -> None:
    with naive():
        function()


def difference(model: WindowedMultiway, image: Tensor) -> float:
    """The largest between the forms' outputs, relative to the largest output."""
    (ours,) = model.maps(image, [model.num_layers - 1])
    with naive():
        (theirs,) = model.maps(image, [model.num_layers - 1])
    return (ours - theirs).abs().max().item() / theirs.abs().max().item()


def peak_of_forward(size: str, image_size: int) -> int:
    """Bytes."""
    command = [sys.executable, "-m", "tests.benchmarks.windows", "--size", size, "--image-size", str(image_size)]
    return child.run([*command, "--forward-only"]).peak


@torch.inference_mode()
def _forward_only(size: str, image_size: int) -> None:
    model = build(size, image_size)
    model.maps(torch.randn(1, 3, image_size, image_size), [model.num_layers - 1])


def missed(rows: Sequence[dict], peak: int) -> list[str]:
    """The targets that the figures miss."""
    found = [
        f"{row['precision']} attention: {row['× faster']:.2f} times, target {FASTER}"
        for row in rows
        if row["what"] == "attention" and row["× faster"] < FASTER
    ]
    if peak >= LARGEST_PEAK:
        found.append(f"peak {peak / 2**30:.2f} GiB, target {LARGEST_PEAK / 2**30:.0f}")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    parser = arguments(__doc__)
    parser.add_argument("--size", choices=list(peers.SIZES), default=TARGET_SIZE)
    parser.add_argument("--image-size", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, help="PyTorch's CPU threads")
    parser.add_argument("--forward-only", action="store_true", help="one forward and nothing else")
    args = parser.parse_args(argv)
    use_threads(args.threads)
    if args.forward_only:
        _forward_only(args.size, args.image_size)
        return 0
    with contextlib.redirect_stdout(sys.stderr):
        report = measure(size=args.size, image_size=args.image_size, rounds=args.rounds)
    return report.show(args.json)


if __name__ == "__main__":
    sys.exit(main())
