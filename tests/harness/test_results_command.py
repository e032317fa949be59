"""`harness results`."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from harness.cli import main
from leaderboards.rows import write
from tests.support.rows import of_run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    rows = [of_run("a", value=80.0, backbone="nano"), of_run("b", value=9.0, backbone="base")]
    write(tmp_path / "results.csv", [*rows, of_run("c", value=85.5, backbone="base", split="train", low=None)])
    return tmp_path


def test_rows_are_filtered_and_sorted(runs: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["results", str(runs), "--where", "split=val", "--sort", "value", "--json"]) == 0
    assert [row["run_id"] for row in json.loads(capsys.readouterr().out)] == ["b", "a"]  # numbers, not texts
    assert main(["results", str(runs), "--where", "backbone=b*", "--sort", "value", "--reverse", "--json"]) == 0
    assert [row["run_id"] for row in json.loads(capsys.readouterr().out)] == ["c", "b"]


def test_every_format_has_the_rows(runs: Path, capsys: pytest.CaptureFixture) -> None:
    for form in ("terminal", "markdown", "csv"):
        assert main(["results", str(runs), "--format", form]) == 0
        text = capsys.readouterr().out
        assert "nano" in text and "85.5" in text
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [float(row["value"]) for row in rows] == [80.0, 9.0, 85.5] and rows[2]["low"] == ""
    assert main(["results", str(runs), "--columns", "all", "--format", "csv"]) == 0
    assert "data_sha256" in capsys.readouterr().out


def test_a_damaged_file_is_shown_as_far_as_it_goes_with_status_1(runs: Path, capsys: pytest.CaptureFixture) -> None:
    file = runs / "results.csv"
    file.write_text(file.read_text().replace("80.0", "eighty"))
    assert main(["results", str(runs), "--json"]) == 1
    assert [row["run_id"] for row in json.loads(capsys.readouterr().out)] == ["b", "c"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--sort", "valeu"], "Did you mean value?"), (["--where", "task"], "COLUMN=VALUE"), (["nowhere"], "no results")],
)
def test_wrong_calls(runs: Path, capsys: pytest.CaptureFixture, arguments: list[str], message: str) -> None:
    paths = [] if "nowhere" in arguments else [str(runs)]
    assert main(["results", *paths, *arguments]) in (1, 2)
    assert message in capsys.readouterr().err
