"""What a process that computes on a CPU wants of its C library, before PyTorch is imported."""

from __future__ import annotations

import ctypes
import os

# glibc's names of what mallopt sets, from malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT = 2**30  # bytes


def prepare() -> None:
    """Waiting and memory as PyTorch on a CPU wants them; call it before PyTorch is imported.

    What the user has set in the environment stays.
    """
    # PyTorch's idle threads wait in a loop; where others use the machine too, that is time taken from those who
    # work. Two runs on two cores took up to ten times as long; alone, a run loses nothing that can be measured.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Have glibc keep what is freed, up to a GiB, instead of handing it back to the system.

    PyTorch on a CPU allocates every activation anew, and glibc takes the large ones from the system and gives them
    back each time: a base model's forward of 8 images has up to 200,000 page faults, a tenth of its time. The price is
    5 to 12 % more memory at the peak of a fine-tuning of a detector, whose images differ in size; it does not grow with
    the run. Other C libraries have no mallopt and are left alone.
    """
    if {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"} & os.environ.keys():
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, KEPT)
        mallopt(M_TRIM_THRESHOLD, KEPT)
