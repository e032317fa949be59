"""The benchmark of grids at its smallest size."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks import grids


@pytest.mark.spawn
def test_finished_cells_are_listed_and_none_is_run(tmp_path: Path) -> None:
    clock, processor = grids.listing(tmp_path, cells=16)
    assert 0 < processor < 20 and processor < clock + 1


@pytest.mark.training
def test_the_overhead_of_a_cell_is_what_its_work_leaves(tmp_path: Path) -> None:
    whole, beside = grids.overhead(tmp_path)
    assert 0 < beside < whole
