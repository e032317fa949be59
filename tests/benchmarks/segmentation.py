"""Scoring semantic segmentation: ours against MMSegmentation's IoUMetric, on the same maps in memory.

2,000 maps of 512 × 683 pixels with 150 classes and some without a class, about as ADE20K's validation set has them; a
few dozen are made and come again and again. Both sides start from decoded maps, each in its own numbering. The areas of
each image must be equal before anything is timed. Then the bootstrap intervals of the four metrics and of every class's
IoU are timed, and the memory of all arrays is taken, maps left out.

Targets: at least 2 times as fast; intervals of 1,000 draws in 30 s; at most 32 MiB. The exit status is 1 when one is
missed.

    python -m tests.benchmarks.segmentation --threads 1

Last figures:
    Two cores of an AMD EPYC, torch 2.11.0, one thread, others on the machine (load 6), twice 3 rounds: 16.8 and 18.1
    times as fast (1.6 ms a map against 29 ms), metrics equal to 1.1e-5 points; intervals of all 154 measurements 8.2 s,
    14.3 MiB.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import tracemalloc
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from mmseg.evaluation.metrics.iou_metric import IoUMetric
from torch import Tensor

from tasks.bootstrap import RESAMPLES, replicates, values
from tasks.segmentation.metrics import count, measure
from tests.benchmarks import timing
from tests.benchmarks.report import Report, arguments, surroundings, use_threads

CLASSES = 150
IGNORED = 255  # MMSegmentation's label of pixels without a class
DISTINCT = 24  # maps
TARGETS = {"times as fast": 2.0, "seconds for intervals": 30.0, "MiB": 32.0}
TOLERANCE = 1e-4  # percentage points: MMSegmentation adds up in float32

Pair = tuple[np.ndarray, np.ndarray]


def pairs(distinct: int, size: Sequence[int]) -> list[Pair]:
    """(prediction, label) maps of patches, four pixels in five predicted rightly; 0 for no class."""
    rng = np.random.default_rng(0)

    def patches() -> np.ndarray:
        rows, columns = (-(-side // 32) for side in size)
        ids = rng.integers(0, CLASSES + 1, (rows, columns), dtype=np.uint8)
        return np.ascontiguousarray(np.kron(ids, np.ones((32, 32), np.uint8))[: size[0], : size[1]])

    labels = [patches() for _ in range(distinct)]
    other = [np.maximum(patches(), 1) for _ in range(distinct)]
    return [
        (np.where((rng.random(label.shape) < 0.8) & (label > 0), label, wrong), label)
        for label, wrong in zip(labels, other, strict=True)
    ]


def ours(maps: Sequence[Pair], images: int) -> np.ndarray:
    """Counts [images, 3, classes]."""
    return np.stack([count(*pair, classes=CLASSES) for pair in itertools.islice(itertools.cycle(maps), images)])


def theirs(maps: Sequence[tuple[Tensor, Tensor]], images: int) -> list[tuple[Tensor, ...]]:
    """Areas of each image: intersection, union, predicted, labelled."""
    return [
        IoUMetric.intersect_and_union(*pair, num_classes=CLASSES, ignore_index=IGNORED)
        for pair in itertools.islice(itertools.cycle(maps), images)
    ]


def reduced(maps: Sequence[Pair]) -> list[tuple[Tensor, Tensor]]:
    """The maps in MMSegmentation's numbering: classes from 0, 255 for none."""
    return [tuple(torch.from_numpy(ids - np.uint8(1)) for ids in pair) for pair in maps]


def difference(counts: np.ndarray, areas: Sequence[tuple[Tensor, ...]]) -> float:
    """The largest difference of a metric of both sides, in points.

    Raises:
        SystemExit: an area of an image differs.
    """
    for found, (intersection, _, predicted, labelled) in zip(counts, areas, strict=True):
        if not (found == torch.stack([intersection, predicted, labelled]).numpy()).all():
            raise SystemExit("The areas of an image differ: there is nothing to compare.")
    expected = IoUMetric.total_area_to_metrics(*(sum(area) for area in zip(*areas, strict=True)))
    names = {"mIoU": np.nanmean(expected["IoU"]), "mAcc": np.nanmean(expected["Acc"]), "aAcc": expected["aAcc"]}
    whole = [m for m in measure(counts, [str(number) for number in range(CLASSES)]) if not m.of]
    measured = {m.metric: value for m, value in zip(whole, values(whole), strict=True)}
    return max(abs(measured[name] - 100 * float(value)) for name, value in names.items())


class Scored(NamedTuple):
    """Seconds of the intervals, and the most MiB that arrays took from the first map to the last interval."""

    intervals: float
    mebibytes: float


def intervals(maps: Sequence[Pair], images: int, *, draws: int) -> Scored:
    counts = ours(maps, images)
    names = [str(number) for number in range(CLASSES)]
    available = [measurement for measurement in measure(counts, names) if not measurement.unavailable]
    seconds = timing.once(lambda: replicates(available, seed=0, resamples=draws))
    tracemalloc.start()
    replicates(measure(ours(maps, images), names)[:1], seed=0, resamples=draws)  # the others share its draws
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return Scored(seconds, peak / 2**20)


def compare(*, images: int, size: Sequence[int], rounds: int, draws: int) -> Report:
    maps = pairs(min(DISTINCT, images), size)
    tensors = reduced(maps)
    apart = difference(ours(maps, images), theirs(tensors, images))
    if apart > TOLERANCE:
        raise SystemExit(f"The metrics differ by {apart:.1e} points: there is nothing to compare.")
    sides = {"ours": lambda: ours(maps, images), "mmseg IoUMetric": lambda: theirs(tensors, images)}
    seconds = timing.interleaved(sides, rounds=rounds, warmup=0)  # the comparison has warmed up
    ratio = timing.speedup(seconds, "ours", "mmseg IoUMetric")
    scored = intervals(maps, images, draws=draws)
    return Report(
        title=f"Segmentation scores, {images:,} maps of {size[0]} × {size[1]}: {surroundings(torch.device('cpu'))}",
        rows=[
            {
                "implementation": name,
                "seconds": median,
                "ms a map": 1000 * median / images,
                "ours is × faster": None if name == "ours" else ratio,
            }
            for name, median in timing.medians(seconds).items()
        ],
        notes=[
            f"Largest difference of a metric: {apart:.1e} points",
            f"95% intervals of 4 metrics and {CLASSES} classes, {draws:,} draws: {scored.intervals:.1f} s",
            f"Arrays besides the maps, at most: {scored.mebibytes:.1f} MiB",
        ],
        missed=missed(ratio, scored),
    )


def missed(ratio: float, scored: Scored) -> list[str]:
    """The targets that are missed."""
    fast, slow, large = TARGETS.values()
    found = [f"{ratio:.2f} times as fast, target {fast}"] if ratio < fast else []
    found += [f"intervals took {scored.intervals:.1f} s, target {slow}"] if scored.intervals > slow else []
    return found + ([f"{scored.mebibytes:.1f} MiB, target {large}"] if scored.mebibytes > large else [])


def main(argv: Sequence[str] | None = None) -> int:
    parser = arguments(__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--size", type=int, nargs=2, default=(512, 683), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--draws", type=int, default=RESAMPLES, help="of the bootstrap")
    parser.add_argument("--threads", type=int, help="PyTorch's CPU threads")
    args = parser.parse_args(argv)
    use_threads(args.threads)
    with contextlib.redirect_stdout(sys.stderr):
        report = compare(images=args.images, size=args.size, rounds=args.rounds, draws=args.draws)
    return report.show(args.json)


if __name__ == "__main__":
    sys.exit(main())
