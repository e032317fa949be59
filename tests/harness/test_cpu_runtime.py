from __future__ import annotations

import os
import platform

import pytest

from tests.support import processes
from tests.support.processes import ENVIRONMENT


def page_faults(how: str, **environment: str) -> int:
    done = processes.run("tests.harness.page_faults", how, environment=ENVIRONMENT | environment)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.spawn
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries than glibc are left alone")
def test_memory_that_is_freed_is_used_again() -> None:
    pages = 10 * 40_000_000 // os.sysconf("SC_PAGESIZE")
    assert page_faults("prepared") < pages / 3
    # Without, the system gives every page anew; and so it is when the user wants it.
    assert page_faults("bare") > pages * 2 / 3
    assert page_faults("prepared", MALLOC_MMAP_THRESHOLD_="131072") > pages * 2 / 3
