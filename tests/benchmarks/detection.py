"""COCO detection scores: ours against pycocotools, boxes and masks, on a made-up set of val2017's size.

5,000 images with 36 detections and about seven objects each, of 80 classes. Ours is from records to all 92 numbers,
their check included; pycocotools' is evaluate, accumulate and summarize, without the loading of its results. The
twelve numbers are compared before anything is said about time. Bootstrap intervals of all 92 metrics are timed besides,
and the memory that ours takes besides the data. All of it runs in one thread, so times are of the processor, which a
machine that does other things too stretches less than the clock's.

Targets: at least 5 times as fast; intervals of 1,000 draws in 40 seconds, and in 1.3 times what those of one metric
take. The exit status is 1 when one is missed.

    python -m tests.benchmarks.detection

Last figures:
    Two cores of an AMD EPYC that others used too (load 2 to 6), two runs of 2 rounds: boxes 0.78 and 0.83 s against
    22.7 and 23.8 s (29 times as fast), masks 3.31 and 3.28 s against 23.2 and 23.9 s (7.0 and 7.3 times). Numbers equal
    to 1.5e-14 points; intervals of either kind 28 s; 52 MiB for boxes, 69 MiB for masks.

    Later, on a busier machine: intervals of all 92 metrics take 1.00 (boxes) and 1.07 times (masks) those of one (200
    draws). Since all areas and overlaps are gone through at once, a draw takes 12.6 ms of a processor instead of 16.8
    with 1,500 images, 0.5 instead of 4.6 ms with 30. Boxes and masks have matches of their own and share only draws:
    the 184 metrics of both cost the sum of the two kinds.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import time
import tracemalloc
from collections.abc import Sequence

import numpy as np

from tasks.bootstrap import Measurement, replicates, values
from tasks.detection import metrics
from tasks.detection.average_precision import NAMES
from tasks.detection.metrics import checked
from tests.benchmarks import timing
from tests.benchmarks.report import Report, arguments
from tests.support.detections import Detected, evaluated, loaded, scenes

FASTER, SECONDS, SHARED = 5, 40, 1.3
TOLERANCE = 1e-10  # points


def made(*, images: int, detections: int) -> Detected:
    return scenes(images=images, detections=detections, objects=7, classes=80, size=(480, 640), sides=(10, 300))


def ours(data: Detected, kind: str) -> list[Measurement]:
    keep = {"scores", "labels", {"box": "boxes", "mask": "masks"}[kind]}
    records = [
        checked({name: record[name] for name in keep}, truth, data.categories, image=str(place))
        for place, (record, truth) in enumerate(zip(data.predictions, data.truths, strict=True))
    ]
    return metrics.measure(records, data.truths, data.categories, kind=kind)


def compare(data: Detected, kind: str, *, rounds: int, draws: int) -> dict[str, str | float]:
    """One row: both times, the intervals', and memory."""
    seconds: dict[str, list[float]] = {"ours": [], "pycocotools": []}
    difference = 0.0
    for _ in range(rounds):
        pair = loaded(data, kind)  # anew, as pycocotools rasterises its annotations where they are
        began = time.process_time()
        evaluation = evaluated(pair, kind)
        seconds["pycocotools"].append(time.process_time() - began)
        began = time.process_time()
        found = ours(data, kind)
        numbers = values(found)
        seconds["ours"].append(time.process_time() - began)
        difference = max(difference, np.abs(numbers[: len(NAMES)] - 100 * evaluation.stats).max())
        del pair, evaluation
    if not difference <= TOLERANCE:
        raise SystemExit(f"The {kind} numbers differ by {difference:.1e} points: there is nothing to compare.")
    medians = timing.medians(seconds)
    available = [one for one in found if not one.unavailable]
    began = time.process_time()
    replicates(available, seed=0, resamples=draws)
    intervals = time.process_time() - began
    began = time.process_time()
    replicates(available[:1], seed=0, resamples=draws)
    single = time.process_time() - began
    return {
        "kind": kind,
        "pycocotools (s)": medians["pycocotools"],
        "ours (s)": medians["ours"],
        "ours is × faster": timing.speedup(seconds, "ours", "pycocotools"),
        "largest difference (points)": difference,
        "intervals (s)": intervals,
        "× one metric's": intervals / single,
        "peak memory (MiB)": _peak(data, kind) / 2**20,
    }


def _peak(data: Detected, kind: str) -> int:
    """Most bytes at a time of what is allocated between the records and the numbers."""
    gc.collect()
    tracemalloc.start()
    values(ours(data, kind))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def missed(row: dict[str, str | float]) -> list[str]:
    """The targets that a row misses."""
    found = []
    if row["ours is × faster"] < FASTER:
        found.append(f"{row['kind']}: {row['ours is × faster']:.1f} times as fast as pycocotools, target {FASTER}")
    if row["intervals (s)"] > SECONDS:
        found.append(f"{row['kind']}: intervals took {row['intervals (s)']:.1f} s, target {SECONDS} s")
    shared = row["× one metric's"]
    if shared > SHARED:
        found.append(f"{row['kind']}: intervals took {shared:.2f} times those of one metric, target {SHARED}")
    return found


def measure(*, images: int, detections: int, rounds: int, draws: int) -> Report:
    """Boxes, then masks."""
    data = made(images=images, detections=detections)
    rows = [compare(data, kind, rounds=rounds, draws=draws) for kind in ("box", "mask")]
    objects = sum(len(truth["objects"]) for truth in data.truths)
    return Report(
        title=f"Detection scores, {images:,} images, {detections} detections each: {os.cpu_count()} CPUs",
        rows=rows,
        notes=[f"{objects:,} objects; intervals: 92 metrics, {draws:,} draws"],
        missed=[line for row in rows for line in missed(row)],
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = arguments(__doc__)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=36, help="per image")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--draws", type=int, default=1000)
    args = parser.parse_args(argv)
    sizes = {"images": args.images, "detections": args.detections}
    with contextlib.redirect_stdout(sys.stderr):
        report = measure(**sizes, rounds=args.rounds, draws=args.draws)
    return report.show(args.json)


if __name__ == "__main__":
    sys.exit(main())
