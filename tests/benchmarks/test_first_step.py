"""The benchmark of a run's first step runs, at a tiny size."""

from __future__ import annotations

import sys

import pytest

from tests.benchmarks import first_step
from tests.benchmarks.answers import answered


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_first_step(forked: None, capsys: pytest.CaptureFixture) -> None:
    options = ("--sets", "vqa", "coco", "--scale", "0.002", "--processes", "2")
    status, report = answered(first_step.main, capsys, *options)
    assert [row["set"] for row in report["rows"]] == ["vqa", "coco"]
    for row in report["rows"]:
        assert row["seconds"] > 0
        assert row["node MiB"] < 500
        assert row["worker MiB"] < first_step.WORKER_TARGET
    assert status == 0  # only the official sizes have targets


def test_first_step_misses_a_target_that_is_not_reached() -> None:
    def row(name: str, node: float, worker: float | None) -> dict:
        return {"set": name, "node MiB": node, "worker MiB": worker}

    assert first_step.missed([row("coco", 199, 49), row("vqa", 900, None), row("objects365", 8000, 1)]) == []
    assert first_step.missed([row("coco", 201, 51)]) == [
        "coco: node MiB 201, target 200",
        "coco: worker MiB 51, target 50",
    ]
