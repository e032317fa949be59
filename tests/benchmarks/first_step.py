"""Seconds and memory until the first step of a run, with annotation files of the official sizes.

Annotations are read, hashed and given to the training set, by as many processes as --processes says; the model, its
weights and the images are left out. "MiB" is what that adds to a process (its proportional set size: memory that
several processes have mapped is divided among them), and "node MiB" the sum over the processes. A worker is a process
forked then that looks at every training sample, and what it has alone after that. With --package another version is
measured, such as a git worktree of an older commit. Needs Linux.

    python -m tests.benchmarks.first_step --sets coco vqa --processes 2

Last figures:
    AMD EPYC, Python 3.11, on two cores that other work used too: of the seconds only the order of magnitude counts. Two
    processes, official sizes; the memory of a process and of a node as above, a worker's alone:

                 seconds  process   node  worker
    coco             181  166 MiB    155       3
    vqa               92  265 MiB    288       1
    imagenet          48  129 MiB    148       1
    captions          58  109 MiB    131       1
    retrieval         62  125 MiB    221       1

    objects365, one process: 319 s of a core, most of it reading; 1.3 GiB mapped, 2.2 GiB resident with all
    libraries, 4.1 GiB at its highest. A worker's share was 4 MiB before it had looked at all samples.

    Before annotations were kept in compact form (commit 573ee7a), sizes × 0.02, one process: coco 45 MiB and a worker
    37 MiB, vqa 22 and 8, imagenet 26 and 5, captions 22 and 5, retrieval 24 and 7.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.official_sizes import SETS
from tests.benchmarks.report import Report, arguments

REPOSITORY = Path(__file__).parents[2]
PROCESS = Path(__file__).with_name("first_step_process.py")
COLUMNS = ("seconds", "MiB", "peak MiB", "node MiB", "worker MiB", "worker seconds")
TARGETS = {("coco", "node MiB"): 200, ("objects365", "node MiB"): 8192}  # at full size
WORKER_TARGET = 50  # MiB


def measure(names: Sequence[str], *, scale: float, processes: int, workers: int, package: Path) -> Report:
    rows = []
    for name in names:
        write, task, changes = SETS[name]
        with tempfile.TemporaryDirectory(prefix="multiway-sizes-") as folder:
            data = Path(folder) / "data"
            write(data, scale)
            told = _run([task, str(data), str(workers), *changes], processes=processes, package=package)
        first = told[0]
        first["node MiB"] = sum(one["MiB"] for one in told)
        rows.append({"set": name, **{column: first.get(column) for column in COLUMNS}})
    return Report(
        title=f"Until the first step: sizes × {scale:g}, {processes} process(es), {package}",
        rows=rows,
        missed=missed(rows) if scale == 1 else [],
    )


def missed(rows: Sequence[dict]) -> list[str]:
    """Figures that take more memory than their target."""
    found = []
    for row in rows:
        targets = {column: most for (name, column), most in TARGETS.items() if name == row["set"]}
        for column, most in {**targets, "worker MiB": WORKER_TARGET}.items():
            if row[column] is not None and row[column] > most:
                found.append(f"{row['set']}: {column} {row[column]:,.0f}, target {most}")
    return found


def _run(options: Sequence[str], *, processes: int, package: Path) -> list[dict[str, float]]:
    """Report of each process."""
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    together = {
        "PYTHONPATH": str(package), "OMP_NUM_THREADS": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port),
        "WORLD_SIZE": str(processes),
    }  # fmt: skip
    started = [
        subprocess.Popen(
            [sys.executable, str(PROCESS), *options],
            env={**os.environ, **together, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
        )
        for rank in range(processes)
    ]
    answers = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        raise SystemExit("A process failed; what it said stands above.")
    return [json.loads(answer.splitlines()[-1]) for answer in answers]


def main(argv: Sequence[str] | None = None) -> int:
    parser = arguments(__doc__)
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--scale", type=float, default=1.0, help="a share of the official sizes")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1, help="0: no look at a loader worker")
    parser.add_argument("--package", type=Path, default=REPOSITORY, help="a checkout of the version to measure")
    args = parser.parse_args(argv)
    with contextlib.redirect_stdout(sys.stderr):
        report = measure(
            args.sets,
            scale=args.scale,
            processes=args.processes,
            workers=args.workers,
            package=args.package.resolve(),
        )
    return report.show(args.json)


if __name__ == "__main__":
    sys.exit(main())
