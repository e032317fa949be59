"""Jobs without a training, and what processes do in place of carrying them out."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.grids import store
from harness.grids.jobs import Job, of

STARTS = "starts"


def stage(folder: Path, name: str, *, needs: tuple[str, ...] = (), minutes: float = 0) -> Job:
    """A job whose result is an empty file; its identity is its name."""
    identity = {"recipe": {"name": name}}
    return Job(
        kind="stage", grid="grid", row=name, column="nano_masked", seed=0, options={}, identity=identity,
        folder=str(folder / name), needs=needs, minutes=minutes,
    )  # fmt: skip


def work(specification: Mapping[str, Any], log: str, gpu: str | None, cores: tuple[int, ...]) -> None:
    """Work in place of a training, as the queue starts it."""
    os.setsid()
    carry_out(of(specification), told=f"{gpu} {' '.join(map(str, cores))}")


def carry_out(job: Job, *, told: str) -> None:
    """Do what the job's name says; the result of one that ends well is its begin, its end and a text."""
    store.begin(job)
    with (job.path / STARTS).open("a") as starts:
        starts.write(f"{time.time()}\n")
    if job.row.startswith("never") or (job.row.startswith("waits") and count_starts(job) == 1):
        signal.signal(signal.SIGINT, signal.SIG_IGN if "stubborn" in job.row else signal.default_int_handler)
        (job.path / "pid").write_text(str(os.getpid()))
        time.sleep(600)
    if job.row.startswith("dies"):
        os.kill(os.getpid(), signal.SIGKILL)
    if job.row.startswith("fails"):
        store.fail(job, "it rained")
        os._exit(1)
    begun = time.time()
    if job.row.startswith("slow"):
        time.sleep(0.5)
    job.result.parent.mkdir(parents=True, exist_ok=True)
    job.result.write_text(f"{begun} {time.time()} {told}")
    store.finish(job, seconds=1)


def count_starts(job: Job) -> int:
    """Number of times that a job has started."""
    path = job.path / STARTS
    return len(path.read_text().splitlines()) if path.exists() else 0
