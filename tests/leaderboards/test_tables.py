"""Tables: the paper's figures as it prints them, and what may stand beside them."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest

import tasks
from backbones.errors import InputError, UsageError
from harness.benchmarks import facts
from leaderboards import board, board_texts, published, results, tables
from leaderboards.board import Board
from leaderboards.rows import ResultRow, write
from tests.leaderboards import test_rows

FACTS = facts()


def of_run(name: str, **changes: object) -> ResultRow:
    """A row on the benchmark's own data, ImageNet's if no task is named."""
    dataset = tasks.get(str(changes.get("task", "imagenet"))).dataset
    return test_rows.of_run(name, **{"dataset": dataset, **changes})


def frame(tmp_path: Path, *rows: ResultRow) -> pd.DataFrame:
    write(tmp_path / "results.csv", rows)
    return results.gather([tmp_path]).frame


def filled(name: str | Path, own: pd.DataFrame | None = None) -> Board:
    return board.fill(tables.load(name), published.rows(), own, FACTS)


def own_lines(found: Board) -> dict[str, list[str]]:
    return {row.cells[0].text: [cell.text for cell in row.cells[found.texts :]] for row in found.rows if row.own}


# The overview of the talk, to the letter.
OVERVIEW = """
Semantic segmentation | ADE20K | mIoU | 61.4 (FD-SwinV2) | 62.8 | (+1.4)
Object detection | COCO | AP | 63.3 (DINO) | 63.7 | (+0.4)
Instance segmentation | COCO | AP | 54.7 (Mask DINO) | 54.8 | (+0.1)
Image classification | ImageNet | top-1 accuracy | 89.0 (FD-CLIP) | 89.6 | (+0.6)
Visual reasoning | NLVR2 | accuracy | 87.0 (CoCa) | 92.6 | (+5.6)
Visual question answering | VQAv2 | VQA accuracy | 82.3 (CoCa) | 84.0 | (+1.7)
Image captioning | COCO | CIDEr | 145.3 (OFA) | 147.6 | (+2.3)
Fine-tuned retrieval | COCO / Flickr30K | mean R@1 | 72.5 / 92.6 (Florence) | 76.0 / 94.2 | (+3.5 / +1.6)
Zero-shot retrieval | Flickr30K | mean R@1 | 86.5 (CoCa) | 88.2 | (+1.7)
"""


def test_the_overview_is_that_of_the_talk() -> None:
    lines = [" | ".join(cell.text for cell in row.cells[1:]) for row in filled("overview").rows]
    assert lines == OVERVIEW.strip().splitlines()


@pytest.mark.parametrize("name", tables.names())
def test_a_table_has_every_published_number_that_it_selects_once(name: str) -> None:
    spec = tables.load(name)
    for column in spec.measured:
        adapter = tasks.get(column.task)
        assert column.split in ("", *adapter.splits) and adapter.metric(column.metric)
    if spec.lines:
        return
    shown = [Decimal(c.text) for row in filled(name).rows for c in row.cells[1 + len(spec.facts) :] if c.text]
    wanted = [row.value for row in published.rows() if spec.selects(row)]
    assert sorted(shown) == sorted(wanted)


def test_every_published_number_is_in_a_table() -> None:
    specs = [tables.load(name) for name in tables.names()]
    left = {(row.source, row.table) for row in published.rows() if not any(spec.selects(row) for spec in specs)}
    assert left == {("unilm beit3/get_started, printed log", table) for table in ("ImageNet", "NLVR2")}


def test_the_best_is_marked_and_equal_ones_are_too() -> None:
    found = filled("imagenet")
    assert [row.cells[0].text for row in found.rows if row.cells[-1].best] == ["Model Soups", "CoCa"]


WHOLE = {"backbone": "beit3_large_patch16_224", "resolution": 224}


def test_own_rows_stand_beside_with_intervals_and_ties(tmp_path: Path) -> None:
    near = of_run("near", value=90.9, low=90.6, high=91.2, seed=0, **WHOLE)
    best = of_run("best", value=91.6, low=91.1, high=91.9, seed=1, **WHOLE)
    found = filled("imagenet", frame(tmp_path, near, best))
    cells = {row.cells[0].text: row.cells[-1] for row in found.rows}
    low, high = cells["beit3_large_patch16_224, 224 px, seed 0"], cells["beit3_large_patch16_224, 224 px, seed 1"]
    assert (low.text, low.best, low.tie) == ("90.9 (90.6–91.2)", False, False)  # 91.6 is outside its interval
    assert (high.text, high.best, high.tie) == ("91.6 (91.1–91.9)", True, False)
    assert not cells["CoCa"].best
    wide = of_run("best", value=91.2, low=90.9, high=91.5, seed=1, **WHOLE)
    cells = {row.cells[0].text: row.cells[-1] for row in filled("imagenet", frame(tmp_path, near, wide)).rows}
    assert cells["beit3_large_patch16_224, 224 px, seed 1"].tie  # 91.0 is inside
    assert not found.apart


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dataset": "unnamed, in the layout of ImageNet"}, "such as toy data: unnamed, in the layout of ImageNet"),
        ({"subset": "300 of 50000"}, "a part of the split: 300 of 50000"),
        ({"n": 500}, "toy or partial data: 500 samples, the official split has 50,000"),
        ({"split": "train", "n": 1_281_167}, "split train, the column has val"),
        ({"metric_version": 7}, "metric version 7, today 1"),
        ({"recipe_altered": "lr epochs"}, "altered recipe: lr epochs"),
        ({"predict_altered": "image_size"}, "altered recipe: image_size"),
        ({"value": None, "low": None, "high": None}, "no value"),
        ({"trained_on": "imagenet:val"}, "leak: the weights were trained on imagenet val"),
        ({"leak": "seen"}, "leak: seen"),
        ({"data_sha256": "other"}, "other data than most rows"),
    ],
)
def test_what_cannot_be_compared_stands_apart_with_the_reason(tmp_path: Path, changes: dict, reason: str) -> None:
    good = [of_run(name, seed=seed, **WHOLE) for seed, name in enumerate(("one", "two"))]
    odd = of_run("odd", **{"backbone": "odd", **changes})
    found = filled("imagenet", frame(tmp_path, *good, odd))
    assert len(own_lines(found)) == 2
    (apart,) = found.apart
    assert apart.label == "odd" and reason in apart.reason


def test_a_single_scale_result_is_not_held_against_a_multi_scale_number(tmp_path: Path) -> None:
    row = of_run("a", task="ade20k", metric="mIoU", n=2000, value=60.0, low=59.0, high=61.0, backbone="own")
    found = filled("ade20k", frame(tmp_path, row))
    line = found.rows[-1]
    assert line.own and line.cells[-2].text == "60.0 (59.0–61.0)" and "multi-scale" in line.cells[-1].missing
    found = filled("overview", frame(tmp_path, row))
    assert "multi-scale" in found.rows[0].cells[-1].missing
    assert [one.reason for one in found.apart] == [
        "the published value is multi-scale, and the harness predicts at one scale"
    ]


def test_empty_cells_say_why(tmp_path: Path) -> None:
    row = of_run("a", task="nlvr2", metric="accuracy", split="dev", n=6982, backbone="own")
    found = filled("vision_language", frame(tmp_path, row))
    reasons = {cell.missing for row in found.rows if row.own for cell in row.cells if cell.missing}
    assert reasons == {"not run", "needs the test server (EvalAI challenge 830)"}
    assert {cell.missing for row in found.rows if not row.own for cell in row.cells} == {"", "not in the source"}
    assert "Weights never released" in found.notes[0]
    text = board_texts.markdown(found)
    assert all(
        f"– {mark}" in text and f"– {mark}: {reason}." in text for reason, mark in board_texts.missing(found).items()
    )


def test_older_results_of_a_model_give_way_and_are_counted(tmp_path: Path) -> None:
    rows = [of_run(f"{day}", value=80.0 + day, started=f"2026-01-0{day}", **WHOLE) for day in (3, 1, 2)]
    found = filled("imagenet", frame(tmp_path, *rows))
    assert own_lines(found) == {"beit3_large_patch16_224, 224 px": ["83.0 (85.1–85.7)"]}
    assert found.notes[-1].startswith("2 older results")


OWN_TABLE = """
title = "Mine"
[[columns]]
task = "imagenet"
split = "val"
metric = "top1"
"""


def test_a_table_of_ones_own_needs_no_published_rows_and_takes_toy_data(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(OWN_TABLE)
    found = filled(tmp_path / "mine.toml", frame(tmp_path, of_run("toy", n=500, value=29.8, backbone="nano")))
    assert own_lines(found) == {"nano": ["29.80 (85.10–85.70)"]} and not found.apart
    (tmp_path / "mine.json").write_text(
        json.dumps({"columns": [{"task": "imagenet", "split": "val", "metric": "top1"}]})
    )
    assert tables.load(tmp_path / "mine.json").columns == tables.load(tmp_path / "mine.toml").columns


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[columns]]\ntask = 'imagenet'\n", "lacks split, metric"),
        (OWN_TABLE + "colour = 'red'\n", "unknown key colour"),
        (OWN_TABLE + "[[published]]\nsauce = 'x'\n", "no column sauce"),
        ("title = 'x'\n", "needs [[columns]], or [[lines]]"),
        ("title = ", "cannot be read"),
    ],
)
def test_a_wrong_table_is_an_error_that_says_what_to_fix(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(InputError) as error:
        tables.load(tmp_path / "mine.toml")
    assert message in str(error.value)
    with pytest.raises(UsageError, match="Did you mean overview"):
        tables.load("overvew")


def test_every_format_has_the_numbers_and_no_markup_of_a_name(tmp_path: Path) -> None:
    rows = [of_run("a", weights="<b>|x_1.pth", **WHOLE), of_run("toy", backbone="=cmd()", n=500)]
    found = filled("imagenet", frame(tmp_path, *rows))
    for writer in board_texts.WRITERS.values():
        assert "85.4" in writer(found) and "toy or partial data" in writer(found)
    assert "<b>" not in board_texts.html(found) and r"\<b\>\|x\_1" in board_texts.markdown(found)
    lines = list(csv.DictReader(io.StringIO(board_texts.csv(found))))
    assert {line["kind"] for line in lines} == {"published", "this harness", "apart"}
    assert float(lines[0]["top-1"]) == 90.2 and float(lines[-1]["top-1"]) == 85.4
    assert lines[-1]["model"].startswith("'=cmd()")
    assert r"\textbf{91.0}" in board_texts.latex(found) and "**91.0**" in board_texts.markdown(found)
