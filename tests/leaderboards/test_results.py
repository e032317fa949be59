"""Reading results: many files at once, damaged ones, files of other versions."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from pathlib import Path

import pytest

from backbones.errors import InputError
from leaderboards import results
from leaderboards.rows import COLUMNS, SCHEMA, read, write
from tests.leaderboards.test_rows import OLD, write_cells
from tests.support.rows import ROW, of_run


def values(found: results.Results) -> dict[str, float]:
    return dict(zip(found.frame["run_id"], found.frame["value"], strict=True))


def test_files_and_folders_are_merged_and_a_row_counts_once(tmp_path: Path) -> None:
    write(tmp_path / "runs" / "results.csv", [ROW, of_run("second", value=80.0)])
    folder = tmp_path / "runs" / "imagenet" / "first"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps([asdict(ROW)]))
    write(tmp_path / "cell" / "rows.csv", [of_run("third", value=70.0)])
    found = results.gather([tmp_path / "runs", tmp_path / "cell" / "rows.csv"])
    assert values(found) == {"first": 85.4, "second": 80.0, "third": 70.0}
    assert (found.problems, found.notices) == ((), ())


def test_columns_are_typed_and_unknown_numbers_stay_unknown(tmp_path: Path) -> None:
    write(tmp_path / "results.csv", [of_run("a", seed=3, train_seconds=1.5), of_run("b", value=None, low=None)])
    frame = results.gather([tmp_path]).frame
    assert frame["seed"].tolist()[0] == 3 and frame["seed"].isna().tolist() == [False, True]
    assert frame["value"].isna().tolist() == [False, True]
    assert frame["note"].tolist() == ["", ""]
    assert list(frame.columns) == [*COLUMNS, "file"]


def test_the_newer_of_two_values_counts_and_both_are_named(tmp_path: Path) -> None:
    import os

    for name, value, age in (("new", 2.0, 1), ("old", 1.0, 100)):
        write(tmp_path / name / "results.csv", [of_run("run", value=value)])
        os.utime(tmp_path / name / "results.csv", (1_000_000 - age, 1_000_000 - age))
    found = results.gather([tmp_path])
    assert values(found) == {"run": 2.0}
    (notice,) = found.notices
    assert "1 in" in notice and "2 in" in notice and "newest" in notice


def damaged(path: Path, change: str) -> Path:
    """A results file of three runs whose second is damaged."""
    write(path, [of_run("first"), of_run("second"), of_run("third")])
    lines = path.read_text().splitlines(keepends=True)
    if change == "number":
        lines[2] = lines[2].replace("85.4", "high")
    elif change == "infinite":
        lines[2] = lines[2].replace("85.4", "inf")
    elif change == "fraction of a sample":
        lines[2] = lines[2].replace("50000", "50000.5")
    elif change == "no number of samples":
        lines[2] = lines[2].replace("50000", "")
    elif change == "header":
        lines[2] = lines[0]
    elif change == "cells":
        lines[2] = lines[2].replace('"ImageNet-1K, 2012"', "ImageNet-1K, 2012")
    elif change == "cut":
        lines[2], lines[3] = lines[3], lines[2][: lines[2].index("second") + 3]
    elif change == "quote":
        lines[2], lines[3] = lines[3], lines[2][: lines[2].index("2012") + 2]
    elif change == "zeros":
        lines[2] = "\0" * 200 + "\n"
    path.write_bytes("".join(lines).encode())
    return path


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("number", "row 2: value holds 'high'"),
        ("infinite", "row 2: value holds 'inf'"),
        ("fraction of a sample", "row 2: n holds '50000.5', which is not whole"),
        ("no number of samples", "row 2: n is empty"),
        ("header", "row 2: a second header"),
        ("cells", "row 2: "),
        ("cut", "row 3: "),
        ("quote", "row 3: "),
        ("zeros", "row 2: "),
    ],
)
def test_a_damaged_row_is_left_out_and_reported_once(tmp_path: Path, change: str, reason: str) -> None:
    path = damaged(tmp_path / "results.csv", change)
    before = path.read_bytes()
    found = results.gather([path])
    assert set(values(found)) == {"first", "third"}
    (problem,) = found.problems
    assert reason in problem and "1 of 3 rows" in problem and str(path) in problem
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 2  # nothing but its lock beside it


def test_a_byte_order_mark_and_windows_line_ends_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    write(path, [ROW])
    text = path.read_text().replace("\r\n", "\n")
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    found = results.gather([path])
    assert values(found) == {"first": 85.4} and not found.problems


def test_a_whole_last_line_needs_no_line_end(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    write(path, [ROW])
    path.write_text(path.read_text().rstrip())
    found = results.gather([path])
    assert values(found) == {"first": 85.4} and not found.problems


def test_older_and_newer_files_are_read_together(tmp_path: Path) -> None:
    write_cells(tmp_path / "old.csv", OLD)
    write(tmp_path / "new.csv", [ROW])
    with (tmp_path / "new.csv").open(newline="") as file:
        (cells,) = csv.DictReader(file)
    write_cells(tmp_path / "new.csv", cells | {"energy": "7 J", "schema": str(SCHEMA + 1)})
    found = results.gather([tmp_path / "old.csv", tmp_path / "new.csv"])
    assert found.frame.set_index("run_id")["schema"].to_dict() == {"old": 1, "first": SCHEMA + 1}
    assert found.frame.set_index("run_id")["energy"]["first"] == "7 J"
    assert not found.problems and "newer version" in found.notices[0]


def test_other_files_are_reported_and_the_rest_is_read(tmp_path: Path) -> None:
    write(tmp_path / "results.csv", [ROW])
    for name, text in (("a/results.csv", "model,top1\nvit,80\n"), ("b/result.json", "[{"), ("c/rows.csv", "")):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    found = results.gather([tmp_path])
    assert values(found) == {"first": 85.4}
    assert sorted("was left out" in problem for problem in found.problems) == [True] * 3


def test_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no results at"):
        results.gather([tmp_path / "absent.csv"])
    with pytest.raises(InputError, match=r"has no results\.csv"):
        results.gather([tmp_path])


def test_some_columns_are_read_without_the_others(tmp_path: Path) -> None:
    write(tmp_path / "results.csv", [ROW])
    frame = results.gather([tmp_path], columns=["backbone"]).frame
    assert "backbone" in frame and "libraries" not in frame


FORMULAS = ["=1+1", "+1", "-x", "@SUM(A1)", "\tx", "'=1", "''+x", "it's", "-"]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_text_like_a_formula_is_neutral_in_the_file_and_itself_when_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "results.csv"
    write(path, [of_run("first", weights=text, value=-1.5)])
    with path.open(newline="") as file:
        (cells,) = csv.DictReader(file)
    assert not cells["weights"].startswith(("=", "+", "-", "@", "\t"))
    assert cells["value"] == "-1.5"  # a number is no formula
    assert read(path)[0].weights == text
    assert results.gather([path]).frame["weights"].tolist() == [text]
    write(path, [of_run("second")])  # nor does adding rows change it
    assert read(path)[0].weights == text
