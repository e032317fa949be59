"""Time of `harness ablate` for a grid whose cells are all finished, and overhead of a cell beside its own work.

    python -m tests.benchmarks.grids [--cells 1000]
    python -m tests.benchmarks.grids --at-once 2      # on an idle machine of two cores

The finished cells are made up: folders with specification, rows and 1,000 replicates each, as a run leaves them. The
overhead of a cell is the time of `run_cell` in a process that has imported PyTorch, as the queue's are forked from,
less the time that fine-tuning and prediction took by its rows, and its part of planning.

On one core that seven processes shared (29 Nov 2026), so that processor time tells more than the clock:

    ablate, 1000 finished cells      1.6 s of processor time (10.9 s by the clock)
    a cell                           1.8 s by the clock beside fine-tuning and prediction

`--at-once N` compares N cells at a time, a share of the cores each, with one after the other on all cores; at least 1.6
times the throughput is asked for of two on two cores.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from harness import hardware, slots
from harness.grids import planning, queue, store
from harness.grids.cell import run_cell
from harness.grids.jobs import Job
from harness.grids.planning import Plan
from harness.workdir import REPLICATES
from leaderboards import replicates, rows
from tests.conftest import draw_folders
from tests.leaderboards.test_comparison import of
from tests.support.rows import ROW

SEEDS = 4
COLUMNS = """
[[columns]]
title = "A"
task = "imagenet"
split = "val"
metric = "top1"
set = {{ image_size = 16, batch_size = 8, micro_batch = 8, steps = {steps}, workers = 0 }}
[[columns]]
title = "B"
task = "imagenet"
split = "val"
metric = "top1"
set = {{ image_size = 16, batch_size = 8, micro_batch = 8, steps = {steps}, workers = 0, lr = 0.01 }}
"""


def write_grid(folder: Path, *, count: int, steps: int = 1) -> Path:
    """Write a grid of `count` rows, two columns and four seeds."""
    lines = [
        f'backbone = "multiway_nano"\nbaseline = "row 0"\nseeds = {list(range(SEEDS))}',
        COLUMNS.format(steps=steps),
    ]
    lines += [
        f'[[rows]]\nname = "row {number}"\nfinetuning = {{ weight_decay = {number}.0 }}' for number in range(count)
    ]
    path = folder / "grid.toml"
    path.write_text("\n".join(lines))
    return path


def make_up(plan: Plan) -> None:
    """Write the folders of all cells, as if they had been run."""
    rng = np.random.default_rng(0)
    values = (rng.random(500) < 0.5).astype(float)
    drawn = of(values)
    for place, job in plan.cells.items():
        store.begin(job)
        apart = drawn.replicates + rng.normal(0, 1, drawn.draws)
        stored = [replace(drawn, metric=metric, replicates=apart) for metric in ("top1", "top5")]
        folder = job.path / "imagenet" / "run"
        replicates.write(folder / REPLICATES, stored)
        row = replace(ROW, value=float(apart[0]), seed=place[2], run_id=job.key[:12], **store.labels(job))
        rows.write(job.path / store.ROWS, [row, replace(row, metric="top5")])
        store.finish(job, seconds=60)


def listing(folder: Path, *, cells: int) -> tuple[float, float]:
    """Seconds of `harness ablate` in a process of its own with nothing to run, by the clock and of the processor."""
    data = draw_folders(folder / "data", train=6, val=6)
    grid = write_grid(folder, count=cells // (2 * SEEDS))
    plan = planning.plan(grid, data=str(data), out=folder / "out", device=hardware.found())
    make_up(plan)
    call: list[str] = [
        sys.executable,
        "-m",
        "harness",
        "ablate",
        str(grid),
        "--data",
        str(data),
        "--out",
        str(folder / "out"),
    ]
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([*call, "--json"], capture_output=True, text=True, check=True)
    seconds, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    found = json.loads(done.stdout)["rows"]
    assert sum(len(entry["values"]) for entry in found) == len(plan.cells)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def overhead(folder: Path) -> tuple[float, float]:
    """Seconds of a cell, and those of them that are no fine-tuning and no prediction; of the second of two cells."""
    data = draw_folders(folder / "data", train=24, val=12)
    begun = time.perf_counter()
    plan = planning.plan(
        write_grid(folder, count=1, steps=20), data=str(data), out=folder / "out", device=hardware.found()
    )
    planned = (time.perf_counter() - begun) / len(plan.jobs)
    jobs: list[Job] = list(plan.jobs)[:2]
    run_cell(jobs[0].specification())  # imports
    begun = time.perf_counter()
    own = run_cell(jobs[1].specification())[0]
    seconds = time.perf_counter() - begun + planned
    return seconds, seconds - own.train_seconds - own.predict_seconds


def throughput(jobs: Sequence[Job], *, at_once: int) -> float:
    """Jobs in a second when the queue runs so many at a time.

    Raises:
        RuntimeError: one failed.
    """
    places = slots.slots(hardware.found(), at_once)
    begun = time.perf_counter()
    for ended in queue.run(jobs, places, done=set()):
        if ended.found.state != "done":
            raise RuntimeError(f"{ended.found.job.label}: {ended.found.reason}")
    return len(jobs) / (time.perf_counter() - begun)


def at_once(folder: Path, *, count: int, steps: int = 60) -> tuple[float, float]:
    """Cells in a second one after the other, and `count` at a time; each as many cells of the same grid."""
    data = draw_folders(folder / "data", train=48, val=24)
    found = []
    for number in (1, count):
        own = folder / str(number)
        own.mkdir()
        grid = write_grid(own, count=1, steps=steps)
        plan = planning.plan(grid, data=str(data), out=own / "out", device=hardware.found())
        found.append(throughput(plan.jobs, at_once=number))
    return found[0], found[1]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--at-once", type=int, help="compare so many cells at a time with one after the other")
    args = parser.parse_args()
    if args.at_once:
        with tempfile.TemporaryDirectory() as folder:
            one, several = at_once(Path(folder), count=args.at_once)
        print(f"cells in a minute: {60 * one:.1f} one after the other, {60 * several:.1f} at {args.at_once} at a time")
        print(f"throughput: {several / one:.2f} times")
        return
    with tempfile.TemporaryDirectory() as folder:
        clock, processor = listing(Path(folder), cells=args.cells)
        print(f"ablate, {args.cells} finished cells: {processor:.2f} s of processor time, {clock:.2f} s by the clock")
    with tempfile.TemporaryDirectory() as folder:
        whole, beside = overhead(Path(folder))
        print(f"a cell: {whole:.2f} s, of which {beside:.2f} s beside fine-tuning and prediction")


if __name__ == "__main__":
    main()
