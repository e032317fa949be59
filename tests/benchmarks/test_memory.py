"""The benchmark of memory forecasts runs, for the smallest case."""

from __future__ import annotations

import sys

import pytest

from tests.benchmarks import memory
from tests.benchmarks.answers import answered


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory(forked: None, capsys: pytest.CaptureFixture) -> None:
    _, report = answered(memory.main, capsys, "--cases", "imagenet", "--sizes", "nano")
    (row,) = report["rows"]
    assert row["measured MiB"] > 20
    assert 0.5 < row["forecast / measured"] < 1.5
