from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from leaderboards.class_rows import ClassRow, write
from leaderboards.rows import ResultsError

SKY = ClassRow(split="val", metric="IoU", of="sky, clouds", unit="percent", value=0.1 + 0.2, low=0.25, high=0.5, n=7)
NONE = ClassRow(
    split="val", metric="IoU", of='"tree"', unit="percent", value=None, low=None, high=None, n=7, note="never occurs"
)


def test_pandas_reads_the_file(tmp_path: Path) -> None:
    """Every digit, names with commas and quotation marks, and no number where there is none."""
    write(tmp_path / "new" / "classes.csv", [SKY, NONE])
    frame = pd.read_csv(tmp_path / "new" / "classes.csv")
    assert list(frame.columns) == ["split", "metric", "of", "unit", "value", "low", "high", "n", "note"]
    assert frame.of.tolist() == ["sky, clouds", '"tree"']
    assert (frame.value[0], frame.low[0], frame.high[0], frame.n[0]) == (0.1 + 0.2, 0.25, 0.5, 7)
    assert frame.value.isna().tolist() == [False, True]
    assert frame.note[1] == "never occurs"


def test_a_file_that_was_there_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "classes.csv"
    write(path, [SKY, NONE])
    write(path, [NONE])
    assert path.read_text().count("\n") == 2
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ResultsError, match=r"file/classes\.csv .*name another file"):
        write(tmp_path / "file" / "classes.csv", [SKY])
    assert (tmp_path / "file").read_text() == "mine"
