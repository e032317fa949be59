from __future__ import annotations

import multiprocessing
import subprocess

import pytest

from tests.support import processes


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes of a benchmark are forks: quick to start, and what is measured in them is no one's figure."""
    monkeypatch.setattr(multiprocessing, "get_context", lambda method: processes.CONTEXT)
    monkeypatch.setattr(subprocess, "run", processes.run_command)
