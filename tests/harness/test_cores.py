from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness import cores, distributed

NODE = socket.gethostname()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A machine of so many cores that this process may run on, with its neighbours' cores and a container's limit."""

    def made(own: range, others: Sequence[tuple[str, range]] = (), limit: str = "max 100000") -> None:
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(own), raising=False)
        everyone = [(NODE, frozenset(own)), *[(node, frozenset(theirs)) for node, theirs in others]]
        monkeypatch.setattr(distributed, "from_all", lambda value: everyone)
        (tmp_path / "cpu.max").write_text(limit + "\n")
        monkeypatch.setattr(cores, "CGROUP_LIMITS", tmp_path / "cpu.max")

    return made


def test_one_core_is_left_to_the_process_itself(machine) -> None:
    machine(range(8))
    assert cores.loader_workers(None) == 7


@pytest.mark.parametrize("count", [1, 2])
def test_small_machines_have_one_worker(machine, count: int) -> None:
    machine(range(count))
    assert cores.loader_workers(None) == 1


def test_large_machines_have_no_more_than_help(machine) -> None:
    machine(range(128))
    assert cores.loader_workers(None) == cores.MOST


def test_processes_that_share_their_cores_divide_them_and_bound_ones_do_not(machine) -> None:
    machine(range(32), [(NODE, range(32))] * 3)
    assert cores.loader_workers(None) == 7
    machine(range(8), [(NODE, range(8 * number, 8 * number + 8)) for number in (1, 2, 3)])
    assert cores.loader_workers(None) == 7


def test_processes_of_other_nodes_take_nothing(machine) -> None:
    machine(range(8), [("elsewhere", range(8))] * 3)
    assert cores.loader_workers(None) == 7


def test_a_containers_limit_counts(machine) -> None:
    machine(range(64), [(NODE, range(64))], limit="1200000 100000")
    assert cores.loader_workers(None) == 5


def test_a_number_that_is_asked_for_is_taken(machine) -> None:
    machine(range(8))
    assert cores.loader_workers(0) == 0
    assert cores.loader_workers(40) == 40
