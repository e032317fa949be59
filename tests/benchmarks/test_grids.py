"""The benchmark of grids at its smallest size."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness import slots
from harness.grids import queue
from harness.hardware import Hardware
from tests.benchmarks import grids
from tests.harness.grids import jobs


@pytest.mark.spawn
def test_finished_cells_are_listed_and_none_is_run(tmp_path: Path) -> None:
    clock, processor = grids.listing(tmp_path, cells=16)
    assert 0 < processor < 20 and processor < clock + 1


@pytest.mark.training
def test_the_overhead_of_a_cell_is_what_its_work_leaves(tmp_path: Path) -> None:
    whole, beside = grids.overhead(tmp_path)
    assert 0 < beside < whole


@pytest.mark.spawn
def test_jobs_at_once_are_faster_by_their_number_where_they_only_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue.worker, "work", jobs.work)
    monkeypatch.setattr(queue.job_process, "PRELOADED", ["tests.harness.grids.jobs"])
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    places = slots.slots(Hardware(kind="cpu", bf16=False), 2)
    monkeypatch.setattr(slots, "slots", lambda machine, count: places[:count])
    waiting = [jobs.stage(tmp_path, f"slow{number}") for number in range(4)]
    again = [jobs.stage(tmp_path / "again", f"slow{number}") for number in range(4)]
    one, two = grids.throughput(waiting, at_once=1), grids.throughput(again, at_once=2)
    assert one < 2 < two * 2 and two > one  # each waits for half a second
    with pytest.raises(RuntimeError, match="it rained"):
        grids.throughput([jobs.stage(tmp_path, "fails")], at_once=1)
