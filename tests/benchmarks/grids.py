"""Time of `harness ablate` for a grid whose cells are all finished, and overhead of a cell beside its own work.

    python -m tests.benchmarks.grids [--cells 1000]

The finished cells are made up: folders with specification, rows and 1,000 replicates each, as a run leaves them. The
overhead of a cell is the time of `run_cell` in a process that has imported PyTorch, as the queue's are forked from,
less the time that fine-tuning and prediction took by its rows, and its part of planning.

On one core that seven processes shared (29 Nov 2026), so that processor time tells more than the clock:

    ablate, 1000 finished cells      1.6 s of processor time (10.9 s by the clock)
    a cell                           1.8 s by the clock beside fine-tuning and prediction
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from harness import hardware
from harness.grids import planning, store
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


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cells", type=int, default=1000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clock, processor = listing(Path(folder), cells=args.cells)
        print(f"ablate, {args.cells} finished cells: {processor:.2f} s of processor time, {clock:.2f} s by the clock")
    with tempfile.TemporaryDirectory() as folder:
        whole, beside = overhead(Path(folder))
        print(f"a cell: {whole:.2f} s, of which {beside:.2f} s beside fine-tuning and prediction")


if __name__ == "__main__":
    main()
