"""Processes of their own for jobs that run side by side: start, part of the machine, end."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from harness import cpu_runtime
from harness.slots import Slot

PRELOADED = ["harness.preloaded"]
PR_SET_PDEATHSIG = 1  # prctl(2): the signal that a process gets when its parent dies


def context(places: Sequence[Slot]) -> BaseContext:
    """The way that processes start: forked from one with all imports on a CPU, each from nothing on GPUs.

    The imports look for GPUs, and in a process forked after that CUDA works no more and CUDA_VISIBLE_DEVICES says
    nothing (PyTorch, notes on multiprocessing, "Poison fork in multiprocessing").
    """
    if any(slot.gpu is not None for slot in places):
        return multiprocessing.get_context("spawn")
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(PRELOADED)
    return found


def enter(log: Path, gpu: str | None, cores: tuple[int, ...]) -> None:
    """Make this process that of a job.

    Args:
        log: file that standard output and error are added to.
        gpu: as CUDA_VISIBLE_DEVICES calls it; None for a job on the CPU.
        cores: that the process, its threads and its loader workers may use.
    """
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
    """Send a signal to the process of a job and to those that it started, its loader workers too."""
    if process.pid is None:
        return
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
        return
    with suppress(ProcessLookupError):  # it has no group of its own yet
        if process.is_alive():
            os.kill(process.pid, number)


def end_with_parent() -> None:
    """Have the kernel end this process when its parent dies, which kills nobody (Linux; elsewhere jobs go on)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def ending(log: Path, status: int | None) -> str:
    """The paragraph about a process that ended with a status, negative for a signal, and gave no reason.

    Args:
        log: file of all that it said.
    """
    if status is not None and status < 0:
        return f"its process was ended by {_signal_name(-status)}{_out_of_memory(-status)}."
    return f"its process ended with status {status}; see {log}."


def _signal_name(number: int) -> str:
    with suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"


def _out_of_memory(number: int) -> str:
    return ", which is often the system running out of memory" if number == signal.SIGKILL else ""


def _say_into(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)
