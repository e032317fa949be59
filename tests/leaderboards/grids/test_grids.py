"""Grid files: the form, what is refused, and the paper's six tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from backbones.errors import InputError, UsageError
from leaderboards import grids, published, tables

GRID = """
backbone = "multiway_nano"
baseline = "plain"
seeds = [0, 1]
[[columns]]
task = "imagenet"
split = "val"
metric = "top1"
[[rows]]
name = "plain"
[[rows]]
name = "fast"
finetuning = { lr = 0.1 }
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "grid.toml"
    path.write_text(text)
    return path


def test_a_grid_is_read(tmp_path: Path) -> None:
    grid = grids.load(written(tmp_path, GRID))
    assert (grid.name, grid.seeds, grid.baseline) == ("grid", (0, 1), "plain")
    assert [row.name for row in grid.rows] == ["plain", "fast"]
    assert grid.rows[1].finetuning == {"lr": 0.1}
    assert grid.columns[0].name == "imagenet val top1"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "fast"', 'nam = "fast"', r"\[\[rows\]\] 2: Unknown key 'nam'. Did you mean name"),
        ("finetuning = {", "finetunning = {", "Did you mean finetuning"),
        ("seeds =", "seed =", "Did you mean seeds"),
        ('split = "val"', "", "lacks split"),
        ('baseline = "plain"', 'baseline = "plan"', "baseline 'plan', which is no row that is run: plain, fast"),
        ('baseline = "plain"', "", "lacks baseline"),
        (
            'name = "fast"\nfinetuning = { lr = 0.1 }',
            'name = "fast"',
            "a row twice: 'fast' changes the same as 'plain'",
        ),
        ('name = "fast"', 'name = "plain"', "a row twice: 'plain' has the name as 'plain'"),
        ("seeds = [0, 1]", "seeds = [0, 0]", "a seed twice"),
        ("seeds = [0, 1]", "seeds = []", "seeds are whole numbers"),
        ("seeds = [0, 1]", 'seeds = "0,1"', "seeds is a list of whole numbers"),
        ("{ lr = 0.1 }", "{ lr = 0.1 }\npretraining = { steps = 1 }", "the grid has none: add \\[pretraining\\]"),
        ("{ lr = 0.1 }", '{ lr = 0.1 }\npublished = { varant = "x" }', "Did you mean variant"),
        ("[[rows]]", "[budget]\nminutes = -1\n[[rows]]", "0 \\(none\\) or more"),
        ("[[rows]]", "[budget]\nminutes = true\n[[rows]]", "minutes is a number, not True"),
        ('metric = "top1"', 'metric = "top1"\n[[columns]]\ntask="imagenet"\nsplit="val"\nmetric="top1"', "top1' twice"),
        ('metric = "top1"', 'metric = "top1', "cannot be read"),
    ],
)
def test_a_wrong_grid_is_told_in_one_paragraph(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GRID
    with pytest.raises(InputError, match=message) as told:
        grids.load(written(tmp_path, GRID.replace(old, new, 1)))
    assert "\n" not in str(told.value) or "cannot be read" in message


def test_a_grid_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no \[\[rows\]\]"):
        grids.load(written(tmp_path, GRID.partition("[[rows]]")[0]))


def test_an_unknown_grid_has_its_nearest_names() -> None:
    with pytest.raises(UsageError, match="ablation_a_transformer"):
        grids.load("ablation_a_transformr")


@pytest.mark.parametrize("name", grids.names())
def test_a_paper_grid_has_every_published_number_of_its_table(name: str) -> None:
    grid, table = grids.load(name), tables.load(name)
    wanted = {(row.task, row.metric, row.variant) for row in published.rows() if table.selects(row)}
    columns = [(column.task, column.metric) for column in grid.columns]
    variants = [row.published["variant"] for row in grid.rows if row.published]
    assert wanted == {(task, metric, variant) for task, metric in columns for variant in variants}
    baseline = next(row for row in grid.rows if row.name == grid.baseline)
    assert baseline.published["variant"] == "baseline"
    assert not baseline.pretraining


def test_there_is_a_grid_for_each_ablation_of_the_paper() -> None:
    assert grids.names() == [name for name in tables.names() if name.startswith("ablation")]
