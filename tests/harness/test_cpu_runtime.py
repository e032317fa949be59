from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

# 40 MB are allocated, written and freed again and again, as PyTorch does with activations; the answer is page faults
# after the heap has grown (an aligned block does not always fit where the last one was).
FAULTS = """
import resource, sys
from harness import cpu_runtime
if sys.argv[1] == "prepared":
    cpu_runtime.prepare()
import torch
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.empty(10_000_000).fill_(1.0)
before = faults()
for _ in range(10):
    torch.empty(10_000_000).fill_(1.0)
print(faults() - before)
"""


def page_faults(how: str, **environment: str) -> int:
    command = [sys.executable, "-c", FAULTS, how]
    done = subprocess.run(command, env=os.environ | environment, check=True, stdout=subprocess.PIPE, text=True)
    return int(done.stdout)


@pytest.mark.spawn
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries than glibc are left alone")
def test_memory_that_is_freed_is_used_again() -> None:
    pages = 10 * 40_000_000 // os.sysconf("SC_PAGESIZE")
    assert page_faults("prepared") < pages / 3
    # Without, the system gives every page anew; and so it is when the user wants it.
    assert page_faults("as it is") > pages * 2 / 3
    assert page_faults("prepared", MALLOC_MMAP_THRESHOLD_="131072") > pages * 2 / 3
