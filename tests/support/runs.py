"""Whole runs of the smallest backbone on the colour images, as processes of their own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from tests.conftest import FAST
from tests.support import processes

# Accumulation, averaged weights, mixup, augmentation and stochastic depth: all that a resume could get wrong.
NOISY = (
    "epochs=6", "batch_size=8", "micro_batch=4", "ema_decay=0.9", "drop_path=0.3", "mixup=0.8", "cutmix=1.0",
    "random_erasing=0.5", "clip_grad=1.0", "precision=fp32",
)  # fmt: skip


def command(
    data: Path, out: Path, *changes: str, task: str = "imagenet", verb: str = "run", extra: Sequence[object] = ()
) -> list[str]:
    """Arguments of `harness`."""
    arguments = [verb, task, "--backbone", "multiway_nano", "--data", data, "--out", out, *extra]
    return [*map(str, arguments), *[part for change in (*FAST, *changes) for part in ("--set", change)]]


def execute(arguments: Sequence[object], *, count: int = 0) -> subprocess.CompletedProcess:
    """Run `harness` in a process of its own, or as a group of `count` processes; it must succeed."""
    done = processes.run("harness", *arguments, processes=count)
    assert done.returncode == 0, done.stderr
    return done


def execute_by_torchrun(arguments: Sequence[object], *, count: int) -> subprocess.CompletedProcess:
    """Run `harness` as users start several processes; seconds slower than `execute`."""
    # Not --standalone: it looks the machine's own name up, which a bare machine may be unable to answer.
    address = ["--master-addr=127.0.0.1", f"--master-port={processes.free_port()}", f"--nproc-per-node={count}"]
    call = [sys.executable, "-m", "torch.distributed.run", *address, "-m", "harness", *map(str, arguments)]
    done = subprocess.run(
        call, cwd=processes.REPOSITORY, env=processes.ENVIRONMENT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done


def kill_when(arguments: Sequence[object], ready: Callable[[], bool]) -> None:
    """Start `harness` and kill -9 it, its loader processes too, once `ready()` holds."""
    process = processes.Started("harness", *arguments)
    deadline = time.monotonic() + 120
    while not ready():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()


def folder(out: Path) -> Path:
    return out / "imagenet" / "multiway_nano-seed0"


def final_weights(out: Path) -> dict[str, Tensor]:
    return load_file(folder(out) / "checkpoints" / "final.safetensors")
