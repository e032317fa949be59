"""C library settings for a process that computes on a CPU, made before PyTorch is imported."""

from __future__ import annotations

import ctypes
import os

# Parameters of mallopt, from glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT = 2**30  # bytes


def prepare() -> None:
    """Set how threads wait and how memory is freed, for PyTorch on a CPU; call it before PyTorch is imported.

    Environment variables that the user has set stay.
    """
    # Idle threads of PyTorch spin, which takes time from other processes on the machine. With the default, two runs on
    # two cores took up to ten times as long; a run alone loses nothing measurable by waiting.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Let glibc keep up to a GiB of freed memory instead of returning it to the system.

    PyTorch on a CPU allocates every activation again, and glibc takes the large ones from the system and returns
    them each time: a base model's forward of 8 images has up to 200,000 page faults, a tenth of its time. The price is
    5 to 12 % more memory at the peak of a fine-tuning of a detector, whose images differ in size; it does not grow with
    the run. Other C libraries have no mallopt and are left alone.
    """
    if {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"} & os.environ.keys():
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, KEPT)
        mallopt(M_TRIM_THRESHOLD, KEPT)
