"""A grid's table: which seeds are compared, with which intervals, and published values beside."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from leaderboards import grids, published
from leaderboards.grids import texts
from leaderboards.grids.table import CellResult, GridTable, Line, fill
from tests.leaderboards.grids.test_grids import GRID, written
from tests.leaderboards.test_comparison import of
from tests.support.rows import of_run

COLUMN = "imagenet val top1"
RNG = np.random.default_rng(1)


def result(hits: np.ndarray, name: str, seed: int) -> CellResult:
    stored = of(hits, name)
    row = of_run(name, seed=seed, value=stored.value, low=stored.value - 3, high=stored.value + 3)
    return CellResult(row=row, replicates=lambda: stored)


def filled(tmp_path: Path, seeds: dict[str, list[int]], failed: dict | None = None) -> tuple[GridTable, dict]:
    grid = replace(grids.load(written(tmp_path, GRID)), seeds=(0, 1, 2))
    base = (RNG.random(300) < 0.6).astype(float)
    cells = {}
    for row, own in seeds.items():
        for seed in own:
            flips = RNG.random(300) < (0.02 if row == "plain" else 0.15)
            cells[row, COLUMN, seed] = result(np.where(flips, 1 - base, base), f"{row}{seed}", seed)
    return fill(grid, cells, failed or {}, published.rows()), cells


def lines(table: GridTable) -> dict[str, Line]:
    return {line.name: line for line in table.columns[0].lines}


def test_the_difference_over_seeds_is_paired_and_students(tmp_path: Path) -> None:
    table, cells = filled(tmp_path, {"plain": [0, 1, 2], "fast": [0, 1, 2]})
    fast, plain = lines(table)["fast"], lines(table)["plain"]
    values = {row: [cells[row, COLUMN, seed].row.value for seed in range(3)] for row in ("plain", "fast")}
    points = np.subtract(values["fast"], values["plain"])
    assert fast.mean == pytest.approx(np.mean(values["fast"]))
    assert fast.sd == pytest.approx(np.std(values["fast"], ddof=1))
    assert fast.difference.value == pytest.approx(points.mean())
    low, high = stats.t.interval(0.95, 2, loc=points.mean(), scale=stats.sem(points))
    assert (fast.difference.seeds.low, fast.difference.seeds.high) == pytest.approx((low, high))
    draws = np.mean(
        [
            cells["fast", COLUMN, seed].replicates().replicates - cells["plain", COLUMN, seed].replicates().replicates
            for seed in range(3)
        ],
        axis=0,
    )
    assert (fast.difference.low, fast.difference.high) == pytest.approx(tuple(np.percentile(draws, [2.5, 97.5])))
    assert plain.difference is None


def test_a_seed_that_one_row_lacks_is_not_compared(tmp_path: Path) -> None:
    place = ("fast", COLUMN, 2)
    table, cells = filled(tmp_path, {"plain": [0, 1, 2], "fast": [0, 1]}, {place: "the disk was full"})
    fast = lines(table)["fast"]
    apart = [cells["fast", COLUMN, seed].row.value - cells["plain", COLUMN, seed].row.value for seed in (0, 1)]
    assert fast.difference.value == pytest.approx(np.mean(apart))
    assert fast.difference.seeds.points == pytest.approx(apart)
    assert (fast.failed, fast.missing) == ({2: "the disk was full"}, ())
    shown = dict(zip(texts.COLUMNS, texts.lines(table.columns[0])[1], strict=True))
    assert shown["not done"] == "seed 2: the disk was full"


def test_one_seed_has_no_interval_over_seeds(tmp_path: Path) -> None:
    table, _ = filled(tmp_path, {"plain": [0], "fast": [0]})
    fast = lines(table)["fast"]
    assert fast.difference.seeds is None and fast.sd is None
    assert fast.missing == (1, 2)


def test_single_seeds_are_shown_below_six(tmp_path: Path) -> None:
    table, _ = filled(tmp_path, {"plain": [0, 1, 2], "fast": [0, 1, 2]})
    line = lines(table)["fast"]
    many = replace(table.columns[0], lines=(replace(line, values=(1.0,) * 6),))
    at = texts.COLUMNS.index("single seeds")
    assert len(texts.lines(table.columns[0])[1][at].split()) == 3
    assert texts.lines(many)[0][at] == ""


def test_published_values_are_rows_of_their_own_kind() -> None:
    table = fill(grids.load("ablation_d_image_target"), {}, {}, published.rows())
    vqa = table.columns[0]
    found = {line.name: (line.published, line.published_difference, line.left_out) for line in vqa.lines}
    assert found["pixels, normalized"] == (Decimal("73.3"), Decimal("-3.5"), "")
    assert found["VQ-KD"] == (Decimal("76.8"), None, "")
    assert found["k-means of a teacher's features"] == (None, None, "")
    names = [line[0] for line in texts.lines(vqa)]
    assert names == [
        "k-means of a teacher's features", "pixels, normalized", "VQ-KD", "published: DALL-E tokenizer",
        "published: pixels, normalized", "published: VQ-KD",
    ]  # fmt: skip
