from __future__ import annotations

import multiprocessing
import subprocess
from types import SimpleNamespace

import pytest

from tests.support import processes


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes of a benchmark are forks: quick to start, and what is measured in them is no one's figure."""
    from tests.benchmarks import deformable, first_step, gpu_tasks, memory

    starting = SimpleNamespace(run=processes.run_command, Popen=processes.Popen, PIPE=subprocess.PIPE)
    for module in (deformable, first_step, gpu_tasks, memory):
        monkeypatch.setattr(module, "subprocess", starting)
    monkeypatch.setattr(multiprocessing, "get_context", lambda method: processes.CONTEXT)
