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


def stage(folder: Path, name: str, *, needs: tuple[str, ...] = (), minutes: float = 0) -> Job:
    """A job whose result is an empty file; its identity is its name."""
    identity = {"recipe": {"name": name}}
    return Job(
        kind="stage", grid="grid", row=name, column="nano_masked", seed=0, options={}, identity=identity,
        folder=str(folder / name), needs=needs, minutes=minutes,
    )  # fmt: skip


def work(specification: Mapping[str, Any], log: str, gpu: str | None, cores: tuple[int, ...]) -> None:
    """Work in place of a training, by the name of the job."""
    os.setsid()
    job = of(specification)
    store.begin(job)
    if job.row.startswith("never"):
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
    job.result.write_text(f"{begun} {time.time()} {gpu} {' '.join(map(str, cores))}")
    store.finish(job, seconds=1)
