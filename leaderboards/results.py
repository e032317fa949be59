"""Result rows of any number of files and folders, merged on reading; needs no lock and changes no file."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pandas as pd

from backbones.errors import InputError
from leaderboards.rows import COLUMNS, NEEDED, SCHEMA, ResultRow
from leaderboards.spreadsheet import restored

FILES = ("results.csv", "rows.csv", "result.json")  # what a folder is searched for, at any depth
FILE = "file"  # column of a row's file, beside the columns of `ResultRow`
LARGEST = 2.0**63  # of whole numbers
KEY = ("run_id", "task", "split", "metric")  # what tells two rows apart

_TYPES = get_type_hints(ResultRow)
_NUMBERS = {name: kind for name, kind in _TYPES.items() if kind is not str}
# Without one of these a row says nothing; a number may be absent where the metric could not be computed.
_FILLED = ("task", "split", "metric", "unit", "n", "metric_version", "run_id")


@dataclass(frozen=True)
class Results:
    """Result rows, and what could not be read.

    frame: a row per metric of a run; columns of `ResultRow` (numbers as Float64 and Int64, unknown ones NA; texts,
        unknown ones empty), `file`, and columns that this version does not know, as texts.
    problems: a paragraph for each damaged file.
    notices: what a reader has to know of files that were read whole.
    """

    frame: pd.DataFrame
    problems: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


def gather(paths: Iterable[str | Path], *, columns: Collection[str] | None = None) -> Results:
    """Read and merge the rows of files and folders.

    A row that several files have (a run's folder and the results file above it) is taken once, from the file that was
    written last. A damaged row is left out and reported; the others of its file are read.

    Args:
        paths: results files (CSV, or JSON as in a run's folder) and folders, searched for `FILES`.
        columns: of `ResultRow`, to read no others (which is faster); `KEY` and `file` are always there.

    Raises:
        InputError: a path that does not exist, or a folder without results.
    """
    wanted = None if columns is None else {*columns, *KEY, *_FILLED, "value", "started", "schema"}
    frames, problems, notices = [], [], []
    for path in _found(paths):
        frame, damage = (_json if path.suffix == ".json" else _table)(path, wanted)
        problems += [damage] if damage else []
        if frame is not None and len(frame):
            notices += _newer(path, frame)
            frames.append(frame.assign(**{FILE: str(path)}))
    if not frames:
        return Results(_typed(pd.DataFrame(columns=[*COLUMNS, FILE], dtype=str))[0], tuple(problems))
    merged = _with_all(pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0], wanted)
    twice = merged.duplicated(list(KEY), keep=False)
    notices += _conflicts(merged[twice])
    merged = merged[~merged.duplicated(list(KEY), keep="last")].reset_index(drop=True)
    return Results(merged, tuple(problems), tuple(notices))


def _with_all(frame: pd.DataFrame, wanted: Collection[str] | None) -> pd.DataFrame:
    """Rows with every column that was asked for, unknown where their file has none of that name."""
    for name in COLUMNS if wanted is None else [name for name in COLUMNS if name in wanted]:
        if name not in frame:
            frame[name] = pd.array([pd.NA] * len(frame), dtype="Float64") if name in _NUMBERS else ""
    texts = [name for name in frame.columns if name not in _NUMBERS]
    return frame.assign(**{name: frame[name].fillna("") for name in texts if frame[name].hasnans})


def _found(paths: Iterable[str | Path]) -> list[Path]:
    """The files behind the paths, the one that was written last at the end."""
    files: dict[Path, Path] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise InputError(
                f"There are no results at {path}. Give a results.csv, a run's folder, or a folder above them; "
                "`harness run` writes runs/results.csv."
            )
        inside = [file for name in FILES for file in sorted(path.rglob(name))] if path.is_dir() else [path]
        if not inside:
            raise InputError(f"The folder {path} has no {', '.join(FILES[:-1])} or {FILES[-1]}, at any depth.")
        files |= {file.resolve(): file for file in inside}
    return sorted(files.values(), key=lambda file: file.stat().st_mtime_ns)


def _table(path: Path, wanted: Collection[str] | None) -> tuple[pd.DataFrame | None, str]:
    """The good rows of a CSV file, and what is wrong with the others."""
    with path.open("rb") as file:
        first = file.readline().decode("utf-8-sig", "replace")
    header = next(csv.reader([first]), [])
    if absent := [name for name in NEEDED if name not in header]:
        return None, (
            f"{path} was left out: it is not a results file, as it has no column {', '.join(absent[:3])}. Fix its "
            "first line or move it away."
        )
    try:
        cells = pd.read_csv(
            path,
            dtype=str,
            na_filter=False,
            encoding="utf-8-sig",
            encoding_errors="replace",
            usecols=None if wanted is None else lambda name: name in wanted,
            index_col=False,
        )
        unreadable = _cut_off(path, len(header), len(cells))
    except pd.errors.ParserError:  # a line with too many cells, or an unfinished one
        cells, unreadable = _by_line(path, header)
    cells = cells.fillna("")
    frame, wrong = _typed(cells)
    return _without(path, frame, {**wrong, **unreadable})


def _json(path: Path, wanted: Collection[str] | None) -> tuple[pd.DataFrame | None, str]:
    """As `_table`, of the result.json of a run's folder."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
        cells = pd.DataFrame([{name: _text(cell) for name, cell in row.items()} for row in rows])
    except (OSError, ValueError, AttributeError, TypeError) as error:
        return None, f"{path} was left out: it is not a run's result.json ({error}). Score the run again to write it."
    if absent := [name for name in NEEDED if len(cells) and name not in cells]:
        return None, f"{path} was left out: its rows have no {', '.join(absent[:3])}. Score the run again to write it."
    if wanted is not None:
        cells = cells[[name for name in cells if name in wanted]]
    frame, wrong = _typed(cells.fillna(""))
    return _without(path, frame, wrong)


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell)


def _by_line(path: Path, header: Sequence[str]) -> tuple[pd.DataFrame, dict[int, str]]:
    """All rows of a file in which some line has another number of cells, and those lines by position."""
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        lines = list(csv.reader(file))[1:]
    lines = [line for line in lines if line]
    wrong = {
        at: f"{len(line)} cells for {len(header)} columns" for at, line in enumerate(lines) if len(line) != len(header)
    }
    padded = [[*line[: len(header)], *[""] * (len(header) - len(line))] for line in lines]
    return pd.DataFrame(padded, columns=list(header), dtype=str), wrong


def _cut_off(path: Path, columns: int, rows: int) -> dict[int, str]:
    """The last row, where the file ends in the middle of it: its last cell may have lost characters."""
    with path.open("rb") as file:
        file.seek(0, 2)
        size = file.tell()
        file.seek(max(0, size - 65536))
        tail = file.read()
    if tail.endswith((b"\n", b"\r")) or not rows:
        return {}
    last = next(csv.reader([tail.splitlines()[-1].decode("utf-8", "replace")]), [])
    return {rows - 1: "the line is cut off"} if len(last) < columns else {}


def _typed(cells: pd.DataFrame) -> tuple[pd.DataFrame, dict[int, str]]:
    """Texts as the types of `ResultRow`, with unknown columns added, and what is wrong with rows by position."""
    wrong: dict[int, str] = {}
    columns: dict[str, Any] = {}
    for name in cells.columns:
        texts = cells[name]
        if name not in _NUMBERS:
            changed = {text: restored(text) for text in texts.unique() if text.startswith("'")}
            columns[name] = texts.replace(changed) if changed else texts
            continue
        numbers = pd.to_numeric(texts.where(texts != "", None), errors="coerce").astype(float)
        finite = np.isfinite(numbers)
        for at in np.flatnonzero(~finite & (texts != "")):
            wrong.setdefault(int(at), f"{name} holds {texts.iloc[at]!r}")
        numbers = numbers.where(finite)
        whole = _NUMBERS[name] in (int, int | None)
        if whole:
            fits = (numbers % 1 == 0) & (numbers.abs() < LARGEST)
            for at in np.flatnonzero(finite & ~fits):
                wrong.setdefault(int(at), f"{name} holds {texts.iloc[at]!r}, which is not whole or too large")
            numbers = numbers.where(fits)
        columns[name] = numbers.astype("Int64" if whole else "Float64")
    for name in _FILLED:
        for at in np.flatnonzero(cells[name] == "") if name in cells else ():
            wrong.setdefault(int(at), f"{name} is empty")
    if {"task", "metric"} <= set(cells.columns):
        for at in np.flatnonzero((cells["task"] == "task") & (cells["metric"] == "metric")):
            wrong[int(at)] = "a second header"
    frame = pd.DataFrame(columns)
    frame["schema"] = frame["schema"].fillna(1) if "schema" in frame else pd.array([1] * len(frame), dtype="Int64")
    return frame, wrong


def _without(path: Path, frame: pd.DataFrame, wrong: dict[int, str]) -> tuple[pd.DataFrame, str]:
    if not wrong:
        return frame, ""
    named = [f"row {at + 1}: {reason}" for at, reason in sorted(wrong.items())]
    listed = "; ".join(named[:3]) + (f"; and {len(named) - 3} more" if len(named) > 3 else "")
    good = frame.drop(index=[frame.index[at] for at in wrong])
    return good, (
        f"{path}: {len(wrong)} of {len(frame)} rows were left out ({listed}). The file is as it was; fix or remove "
        "those rows, or score those runs again."
    )


def _newer(path: Path, frame: pd.DataFrame) -> list[str]:
    schema = frame["schema"].max() if "schema" in frame else 1
    if schema <= SCHEMA:
        return []
    return [f"{path} is of a newer version (schema {schema}, here {SCHEMA}): columns may mean something else there."]


def _conflicts(twice: pd.DataFrame) -> list[str]:
    """Rows that two files have with different values."""
    if not len(twice):
        return []
    different = twice.groupby(list(KEY), sort=False)["value"].nunique() > 1
    notices = []
    for run, task, split, metric in different[different].index:
        own = twice[(twice[list(KEY)] == (run, task, split, metric)).all(axis=1)]
        shown = ", ".join(f"{row.value:g} in {row.file}" for row in own.itertuples())
        notices.append(f"{task} {split} {metric} of run {run} is {shown}: the last of these, which is newest, counts.")
    return notices
