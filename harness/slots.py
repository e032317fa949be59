"""The parts of this machine for processes that run side by side: a GPU each, or a share of the cores."""

from __future__ import annotations

import os
from typing import NamedTuple

from backbones.errors import UsageError
from harness.hardware import Hardware


class Slot(NamedTuple):
    """A part of the machine. gpu: as CUDA_VISIBLE_DEVICES calls it; None on a CPU."""

    gpu: str | None
    cores: tuple[int, ...]


def slots(machine: Hardware, jobs: int | None) -> list[Slot]:
    """The parts of the machine that jobs run on: its GPUs, or on a CPU `jobs` shares of the cores (by default one).

    Raises:
        UsageError: more jobs than there are GPUs or cores, or less than one.
    """
    cores, most = _cores(), most_jobs(machine)
    count = jobs if jobs is not None else len(machine.gpus) or 1
    if not 1 <= count <= most:
        what = f"{most} GPU(s)" if machine.gpus else f"{most} core(s)"
        raise UsageError(f"--jobs is a number from 1 to {most}, since there are {what} here, not {count}.")
    shares = [tuple(cores[at * len(cores) // count : (at + 1) * len(cores) // count]) for at in range(count)]
    # More GPUs than cores share the cores.
    shares = [share or tuple(cores) for share in shares]
    gpus = machine.gpus or (None,) * count
    return [Slot(gpu, share) for gpu, share in zip(gpus, shares, strict=False)]


def most_jobs(machine: Hardware) -> int:
    """Number of jobs that the machine has a part for: its GPUs, or its cores."""
    return len(machine.gpus) or len(_cores())


def _cores() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
