"""One HTML file with everything: tables, intervals, curves, classes, pictures, provenance; opens without a network."""

from __future__ import annotations

import csv
import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from backbones.files import reading
from leaderboards import board_texts, render
from leaderboards.board import Board, labels
from leaderboards.cells import OWN
from leaderboards.report import plots
from leaderboards.report.plots import Dot
from leaderboards.report.runs import RunFolder
from leaderboards.results import FILE

FOLDER = Path(__file__).parent
# Columns of the list of all rows, in the page as arrays.
LISTED = (
    "task",
    "split",
    "metric",
    "value",
    "low",
    "high",
    "n",
    "unit",
    "model",
    "dataset",
    "leak",
    "started",
    "run_id",
)
PROVENANCE_RUNS = 50  # runs whose columns are unfolded in full; a leaderboard of more has them in its results file
LARGEST_PLOTS = 40
APART_ROWS = 20  # of a table, the newest; all are in the list of rows


@dataclass(frozen=True, kw_only=True)
class Sections:
    """Content of a report. changes: rows of samples that two runs predict differently, with a title."""

    title: str
    boards: Sequence[Board]
    frame: pd.DataFrame
    runs: Sequence[RunFolder] = ()
    verdicts: Sequence[dict[str, str]] = ()
    comparison: Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]] = ()
    problems: Sequence[str] = ()


def page(sections: Sections) -> str:
    """The whole page. Every text in it is escaped; the rows are JSON that no markup can leave."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined)
    template = environment.get_template("page.html.j2")
    frame = sections.frame.assign(model=labels(sections.frame))
    return template.render(
        sections=sections,
        tables=[_table(board) for board in sections.boards],
        apart_columns=board_texts.APART,
        plots=[Markup(plot) for plot in _plots(frame, sections.boards)],
        runs=[_run(run) for run in sections.runs],
        provenance=_provenance(frame),
        rows={"columns": LISTED, "rows": _rows(frame)},
        made=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        style=Markup((FOLDER / "page.css").read_text()),
        script=Markup((FOLDER / "page.js").read_text()),
    )


def read_verdicts(paths: Sequence[str | Path]) -> list[dict[str, str]]:
    """Verdicts that `harness reproduce` left at or below some paths."""
    files = [file for path in map(Path, paths) if path.is_dir() for file in sorted(path.rglob("verdicts-*.csv"))]
    found = []
    for file in files:
        with (
            reading(file, "verdicts", fix="Remove it, or make it again with `harness reproduce`."),
            file.open(newline="", encoding="utf-8") as lines,
        ):
            found += list(csv.DictReader(lines))
    return found


def _table(board: Board) -> dict[str, Any]:
    texts = board_texts.plain_cells(board)
    rows = [
        {
            "own": row.own,
            "cells": [
                {"text": text, "best": cell.best, "told": cell.missing}
                for text, cell in zip(own, row.cells, strict=True)
            ],
        }
        for row, own in zip(board.rows, texts, strict=True)
    ]
    return {
        "title": board.title,
        "columns": board.columns,
        "texts": board.texts,
        "rows": rows,
        "legend": board_texts.legend(board),
        "apart": board_texts.apart_cells(board.apart[-APART_ROWS:]),
        "apart_count": len(board.apart),
    }


def _plots(frame: pd.DataFrame, boards: Sequence[Board]) -> list[str]:
    """A plot for each column of the tables with own values, published numbers in it; then one for each metric."""
    found = []
    for board in boards:
        for at, column in enumerate(board.columns):
            own = [row for row in board.rows if row.own and at >= board.texts and row.cells[at].value is not None]
            if own:
                found.append(plots.dots(column, "percent or points", _dots(board, at)))
    known = frame[frame["value"].notna() & frame["low"].notna()]
    for (task, split, metric, unit), own in known.groupby(["task", "split", "metric", "unit"], sort=False):
        best = own.sort_values("value", ascending=False).head(12)
        values = zip(best["model"], best["value"], best["low"], best["high"], strict=True)
        given = [Dot(label=f"{OWN} {name}", value=float(v), low=float(a), high=float(b)) for name, v, a, b in values]
        found.append(plots.dots(f"{task} {split} {metric}", unit, given))
    return found[:LARGEST_PLOTS]


def _dots(board: Board, at: int) -> list[Dot]:
    shown = [row for row in board.rows if row.cells[at].value is not None]
    shown.sort(key=lambda row: -row.cells[at].value)
    return [
        Dot(
            label=(f"{OWN} " if row.own else "") + row.cells[0].text,
            value=row.cells[at].value,
            own=row.own,
            **_ends(row.cells[at].text),
        )
        for row in shown
    ]


def _ends(text: str) -> dict[str, float]:
    """The ends of the interval in a cell's text, where it has one."""
    _, bracket, rest = text.partition(" (")
    low, dash, high = rest.partition(")")[0].partition("–")
    return {"low": float(low), "high": float(high)} if bracket and dash else {}


def _run(run: RunFolder) -> dict[str, Any]:
    from markupsafe import Markup

    drawn = [plots.curves("training loss", "optimizer step", run.losses)] if run.losses else []
    drawn += [plots.curves("validation", "optimizer step", run.validations)] if run.validations else []
    return {
        "name": run.name,
        "curves": [Markup(each) for each in drawn],
        "classes": run.classes,
        "pictures": run.pictures,
    }


def _provenance(frame: pd.DataFrame) -> list[tuple[str, list[tuple[str, str]]]]:
    """The columns that all rows of a run share, by run; the newest runs first."""
    found = []
    newest = (
        frame.sort_values("started", ascending=False, kind="stable").drop_duplicates("run_id").head(PROVENANCE_RUNS)
    )
    left_out = {"split", "metric", "unit", "value", "low", "high", "n", "bootstrap_draws", "note", "model", FILE}
    names = [name for name in newest.columns if name not in left_out]
    for row in newest.to_dict("records"):
        shown = [(name, render.cell(row[name])) for name in names]
        found.append((f"{row['task']}: {row['model']}, run {row['run_id']}", [pair for pair in shown if pair[1]]))
    return found


def _rows(frame: pd.DataFrame) -> list[list[Any]]:
    known = [name for name in LISTED if name in frame]
    listed = frame[known].astype(object)
    listed = listed.where(frame[known].notna(), None)
    for name in LISTED:
        if name not in known:
            listed[name] = ""
    rows = listed[list(LISTED)].values.tolist()
    return [[round(cell, 4) if isinstance(cell, float) else cell for cell in row] for row in rows]
