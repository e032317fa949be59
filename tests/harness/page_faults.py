"""Page faults of allocating, writing and freeing 40 MB again and again, as PyTorch does: `python -m … prepared|bare`.

The heap has grown by then; an aligned block does not always fit where the last one was.
"""

from __future__ import annotations

import resource
import sys

import torch

from harness import cpu_runtime


def faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def allocate(times: int) -> None:
    for _ in range(times):
        torch.empty(10_000_000).fill_(1.0)


if __name__ == "__main__":
    if sys.argv[1] == "prepared":
        cpu_runtime.prepare()
    allocate(10)
    before = faults()
    allocate(10)
    print(faults() - before)
