"""Number of loader workers for a process."""

from __future__ import annotations

import os
import socket
from fractions import Fraction
from pathlib import Path

from harness import distributed

MOST = 16  # workers of a process by default: enough for a current GPU at 480 pixels, each with memory of its own
CGROUP_LIMITS = Path("/sys/fs/cgroup/cpu.max")


def loader_workers(wanted: int | None) -> int:
    """Number of loader workers of this process: `wanted`, or by default one fewer than its share of the node's cores.

    The share counts the cores that the process may run on, each divided by the processes that may run there too: the
    same for one SLURM task with eight processes and for eight tasks bound to cores of their own. A container's CPU
    limit counts as well. At least 1, at most `MOST`. Every process has to call, since the shares depend on all of them.
    """
    cores = frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset(range(os.cpu_count()))
    here = socket.gethostname()
    nodes = distributed.from_all((here, cores))
    neighbours = [theirs for node, theirs in nodes if node == here]
    if wanted is not None:
        return wanted
    share = sum(Fraction(1, sum(core in theirs for theirs in neighbours)) for core in cores)
    limit = _container_limit()
    if limit is not None:
        share = min(share, limit / len(neighbours))
    return min(max(int(share) - 1, 1), MOST)


def _container_limit() -> Fraction | None:
    """CPU limit of the container (cgroup v2) in cores; None where there is none."""
    try:
        quota, period = CGROUP_LIMITS.read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else Fraction(int(quota), int(period))
