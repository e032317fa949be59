from __future__ import annotations

import csv
import io

import pandas as pd

from leaderboards import render


def test_csv_has_numbers_as_numbers_and_no_formulas() -> None:
    text = render.csv_text(["a", "=b"], [[-1.5, "=cmd"], [None, 'x, "y"'], [pd.NA, float("nan")]])
    assert list(csv.reader(io.StringIO(text))) == [["a", "'=b"], ["-1.5", "'=cmd"], ["", 'x, "y"'], ["", ""]]


def test_markup_in_a_text_is_no_markup_in_a_table() -> None:
    assert render.markdown(["a"], [["x|y"], ["<b>"], ["*z*\nw"]]).splitlines() == [
        "| a |", "| --- |", r"| x\|y |", r"| \<b\> |", r"| \*z\* w |",
    ]  # fmt: skip
    assert render.latex("a_b & 5% {x} \\") == r"a\_b \& 5\% \{x\} \textbackslash{}"
    assert render.escaped('<a href="x">') == "&lt;a href=&quot;x&quot;&gt;"


def test_records_are_json_able() -> None:
    frame = pd.DataFrame({"n": pd.array([1, None], dtype="Int64"), "text": ["a", ""]})
    assert render.records(frame) == [{"n": 1, "text": "a"}, {"n": None, "text": ""}]
