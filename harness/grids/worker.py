"""A process for one job: its own group, its part of the machine, and a log file for all that it says."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from harness import cpu_runtime

DONE, FAILED, BUSY = 0, 1, 75  # exit statuses; 75 is EX_TEMPFAIL of sysexits.h
PRELOADED = ["harness.grids.preloaded"]
PR_SET_PDEATHSIG = 1  # prctl(2): the signal that a process gets when its parent dies


def work(specification: Mapping[str, Any], log: str, gpu: str | None, cores: tuple[int, ...]) -> None:
    """Carry out a job; the process ends with one of the exit statuses above.

    Args:
        log: file that standard output and error are added to.
        gpu: as CUDA_VISIBLE_DEVICES calls it; None for a job on the CPU.
        cores: that the process, its threads and its loader workers may use.
    """
    enter(Path(log), gpu, cores)
    sys.exit(status(specification, threads=len(cores)))


def enter(log: Path, gpu: str | None, cores: tuple[int, ...]) -> None:
    """Make this process one that works for a queue; the arguments are those of `work`."""
    os.setsid()
    end_with_parent()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _say_into(log)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    cpu_runtime.prepare()


def end(process: BaseProcess, number: int) -> None:
    """Send a signal to a process of the queue and to those that it started, its loader workers too."""
    if process.pid is None:
        return
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
        return
    with suppress(ProcessLookupError):  # it has no group of its own yet
        if process.is_alive():
            os.kill(process.pid, number)


def status(specification: Mapping[str, Any], *, threads: int) -> int:
    """Carry out a job in this process; returns one of the exit statuses above."""
    import torch

    from harness.grids.cell import reason_of, run_cell
    from harness.workdir import BusyError

    torch.set_num_threads(threads)
    try:
        run_cell(specification)
    except BusyError as error:
        print(error, file=sys.stderr)
        return BUSY
    except Exception as error:
        traceback.print_exc()
        print(reason_of(error), file=sys.stderr)
        return FAILED
    return DONE


def end_with_parent() -> None:
    """Have the kernel end this process when its parent dies, which kills nobody (Linux; elsewhere jobs go on)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _say_into(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)
