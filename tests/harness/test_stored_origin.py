"""Columns that are read from beside predictions: those of the prediction stage alone, and of their types."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import harness
from backbones import InputError
from harness import stored_origin
from harness.provenance import predictions_sha256
from leaderboards.rows import PREDICTED, read


@pytest.fixture
def scored(colours: Path, tmp_path: Path) -> Path:
    """Predictions of the colour images, as anybody may have written them."""
    path = tmp_path / "val.jsonl"
    images = sorted((colours / "val").rglob("*.JPEG"))
    path.write_text("".join(json.dumps({"id": f"val/{i.parent.name}/{i.name}", "top": [0, 1]}) + "\n" for i in images))
    return path


def beside(predictions: Path, **columns: object) -> None:
    predictions.with_suffix(".json").write_text(json.dumps(columns))


FORGED = {
    "data_sha256": "0" * 64, "predictions_sha256": "0" * 64, "package_version": "9", "package_commit": "x",
    "split": "test", "task": "other", "dataset": "ImageNet", "value": 99.0, "n": 50_000, "note": "x" * 1_000_000,
    "server": "a server", "leak": "none", "predictions_checked": "yes", "anything": 1,
}  # fmt: skip


def test_no_neighbour_file_says_what_is_computed_when_scoring(colours: Path, scored: Path, few_draws: None) -> None:
    (plain, _) = harness.score("imagenet", scored, data=colours)
    beside(scored, backbone="mine", run_id="r", started="2026", **FORGED)
    (row, _) = harness.score("imagenet", scored, data=colours, results=scored.parent / "results.csv")
    assert (row.backbone, row.run_id) == ("mine", "r")
    assert not {name for name in FORGED if hasattr(row, name) and getattr(row, name) != getattr(plain, name)}
    assert not {*FORGED} & {*PREDICTED}


@pytest.mark.parametrize(
    "columns",
    [
        {"seed": "abc"}, {"parameters": "many"}, {"parameters": True}, {"predict_seconds": float("nan")},
        {"predict_seconds": float("inf")}, {"seed": 10**30}, {"seed": 1.5}, {"backbone": None}, {"backbone": ["x"]},
        {"backbone": "x" * 200_000}, {"backbone": "nul\0"}, {"run_id": 7}, {"device": "\ud800"},
    ],
)  # fmt: skip
def test_values_that_no_column_can_hold_leave_the_results_as_they_are(
    columns: dict, colours: Path, scored: Path, few_draws: None
) -> None:
    results = scored.parent / "results.csv"
    harness.score("imagenet", scored, data=colours, results=results)
    before = results.read_bytes()
    beside(scored, **columns)
    with pytest.raises(InputError, match=rf"val\.json .*column {next(iter(columns))} holds .*Remove it to score"):
        harness.score("imagenet", scored, data=colours, results=results)
    assert results.read_bytes() == before
    assert len(read(results)) == 2


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b'{"seed": 1', b"[" * 200_000, b"\xff\xfe", b'"text"'])
def test_a_damaged_neighbour_is_named(content: bytes, scored: Path) -> None:
    scored.with_suffix(".json").write_bytes(content)
    with pytest.raises(InputError, match=r"val\.json \(what the predictions say of their model\) cannot be read"):
        stored_origin.read(scored)


def test_predictions_that_changed_since_are_not_scored(colours: Path, scored: Path, few_draws: None) -> None:
    stored_origin.write(scored, {"backbone": "mine", "run_id": "r", "started": "2026", "value": 1})
    (row, _) = harness.score("imagenet", scored, data=colours)
    assert (row.backbone, row.predictions_checked) == ("mine", "yes")
    assert row.predictions_sha256 == predictions_sha256(scored)
    scored.write_text(scored.read_text().replace("[0, 1]", "[1, 0]", 1))
    with pytest.raises(InputError, match=r"val\.jsonl is not what was predicted"):
        harness.score("imagenet", scored, data=colours)
    scored.with_suffix(".json").unlink()
    (row, _) = harness.score("imagenet", scored, data=colours)
    assert (row.backbone, row.predictions_checked) == ("", "")


def test_formulas_do_not_reach_a_spreadsheet(colours: Path, scored: Path, few_draws: None) -> None:
    formula = '=HYPERLINK("http://example.org")'
    beside(scored, backbone=formula)
    results = scored.parent / "results.csv"
    harness.score("imagenet", scored, data=colours, results=results)
    assert not any(cell.startswith("=") for line in results.read_text().splitlines() for cell in line.split(","))
    assert read(results)[0].backbone == formula
