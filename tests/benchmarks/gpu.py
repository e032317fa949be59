"""All measurements that need a GPU, in one call of under eight minutes.

Training by the recipes of the vision-language tasks and ImageNet (`gpu_tasks`), images alone in bf16, base and large,
224 px (`gpu_images`), and dense tasks at 896 and 1,024 px (`gpu_dense`): images per second, seconds of a step, model
FLOPs utilisation, peak memory, and the ratio to a peer's eager form doing the same in the same run. What a peer
computes is compared with ours, in fp32, before anything is timed; for the tasks the peer is the CPU.

- Forward: the model cast to bf16, inference mode, no autocast.
- Training step: float32 weights, forward under bf16 autocast, the loss, backward, one step of fused AdamW, zero_grad.
  That of a backbone alone is cross-entropy of a linear head on the mean token, without stochastic depth. What an image
  never passes is frozen in all implementations, as our task models do.
- Batch: the largest of the measurement's own, its half, quarter … that fits into memory.
- Seconds: the median of several readings of a burst of steps, with the GPU idle before and after each.
- Utilisation: `forward_flops` × steps per second, relative to the rate of a large matrix product measured in the
  same run. A training step counts as three forwards, also when activation checkpointing computes a fourth.

A measurement that fails (memory, compiler) is a line with the reason. When `--budget` seconds are over, the
measurement that runs is stopped and the rest are skipped, and their lines say so. Without a GPU everything runs at
a tiny size, only so that it cannot rot.

Whole steps of the other tasks with files on disk are in `tests.benchmarks.throughput`, which runs on a GPU too.

To add a measurement: a function (machine, size, batch) -> Work, and an entry in MEASUREMENTS here.

    python -m tests.benchmarks.gpu --json figures.json
    python -m tests.benchmarks.gpu --sizes giant

Last figures:
    (none yet)
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from functools import partial

import torch

from harness.device import device, precision
from tests.benchmarks import gpu_dense, gpu_images, gpu_tasks
from tests.benchmarks.gpu_measuring import (
    BURST,
    Budget,
    Comparison,
    Machine,
    Measurement,
    Reading,
    compare,
    line,
    peak_flops,
)
from tests.benchmarks.report import Report, arguments, surroundings

GIB = 2**30

# In the order in which they run: what the budget may cut off comes last.
MEASUREMENTS: Sequence[Measurement] = (
    *gpu_tasks.MEASUREMENTS, *gpu_images.EAGER, *gpu_dense.MEASUREMENTS, *gpu_images.COMPILED,
)  # fmt: skip
COMPARISONS: Sequence[Comparison] = (*gpu_tasks.COMPARISONS, *gpu_images.COMPARISONS, *gpu_dense.COMPARISONS)


def measure(machine: Machine, *, sizes: Sequence[str], only: str, seconds: float) -> Report:
    """Everything, within that time."""
    budget = Budget(seconds)
    compared = [
        compare(comparison, machine, size, budget)
        for comparison in COMPARISONS
        for size in sizes
        if size in comparison.sizes and not comparison.lacks()
    ]
    peak = budget.run(partial(peak_flops, machine), machine)
    readings = {
        (measurement.work, size, measurement.model, measurement.variant): line(measurement, machine, size, budget)
        for measurement in MEASUREMENTS
        for size in sizes
        if only in measurement.name and size in measurement.batches
    }
    precision = str(machine.dtype).removeprefix("torch.")
    said = peak if isinstance(peak, str) else f"{peak / 1e12:.3g} TFLOP/s (utilisation 100 %)"
    tiny = "NO GPU: TINY SIZES, ONLY TO SEE THAT EVERYTHING RUNS. " if machine.tiny else ""
    return Report(
        title=f"{tiny}{precision}: {surroundings(machine.device)}",
        rows=[_row(key, readings, None if isinstance(peak, str) else peak) for key in readings],
        notes=[
            *[found.note for found in compared],
            f"Measured peak of a {precision} matrix product: {said}",
            f"Took {budget.used:.0f} s of {budget}",
        ],
        missed=[found.note for found in compared if not found.equal],
    )


Key = tuple[str, str, str, str]  # work, size, model, variant


def _row(key: Key, readings: Mapping[Key, Reading], peak: float | None) -> dict:
    work, size, model, variant = key
    reading = readings[key]
    peer = _peer(key, readings)
    return {
        "work": work,
        "size": size,
        "model": model,
        "variant": variant,
        "batch": reading.batch,
        "images/s": reading.rate,
        "s/step": reading.seconds,
        "MFU %": 100 * reading.flops / peak if reading.flops and peak else None,
        "peak GiB": reading.memory / GIB if reading.memory else None,
        "× peer eager": reading.rate / peer.rate if reading.rate and peer.rate else None,
        "remark": reading.remark,
    }


def _peer(key: Key, readings: Mapping[Key, Reading]) -> Reading:
    """Share of the same work that another implementation's eager form did; empty where there is none."""
    work, size, _, _ = key
    for (other_work, other_size, model, variant), reading in readings.items():
        if (other_work, other_size, variant) == (work, size, "eager") and model != "ours":
            return reading
    return Reading()


def main(argv: Sequence[str] | None = None) -> int:
    parser = arguments(__doc__)
    parser.add_argument(
        "--sizes", nargs="+", choices=list(gpu_tasks.SIZES), default=["base", "large"], help="with a GPU (base large)"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="measurements whose name has this, as in 'training'")
    parser.add_argument("--budget", type=float, default=420.0, help="seconds for everything (%(default)s)")
    parser.add_argument(
        "--rounds", type=int, default=10, help=f"readings, of {BURST} steps where they are short (%(default)s)"
    )
    parser.add_argument("--warmup", type=int, default=3, help="untimed steps before them (%(default)s)")
    parser.add_argument("--compile", action="store_true", help="torch.compile without a GPU too")
    parser.add_argument("--no-compile", action="store_true", help="no torch.compile on a GPU either")
    args = parser.parse_args(argv)
    where = device()
    gpu = where.type == "cuda"
    machine = Machine(
        device=where,
        dtype=torch.bfloat16 if gpu or precision("auto", where) == "bf16" else torch.float32,
        rounds=args.rounds,
        warmup=args.warmup,
        compiles=args.compile or (gpu and not args.no_compile),
    )
    with contextlib.redirect_stdout(sys.stderr):
        report = measure(machine, sizes=args.sizes if gpu else ["nano"], only=args.only, seconds=args.budget)
    return report.show(args.json)


if __name__ == "__main__":
    sys.exit(main())
