"""The overview: a row per benchmark, a model's number beside the best before it."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import pandas as pd

from backbones.errors import InputError
from leaderboards.cells import NOT_RUN, Cell, Row, needs_server, number, rounded, unreleased
from leaderboards.comparable import Benchmarks
from leaderboards.published import PublishedRow
from leaderboards.tables import Column, Line, TableSpec, matches

DIGITS = 1
DERIVED = {"mean_R1": ("i2t_R1", "t2i_R1")}  # metrics that are a mean of published ones


def overview(
    spec: TableSpec, selected: Sequence[PublishedRow], own: pd.DataFrame | None, facts: Benchmarks
) -> tuple[tuple[str, ...], int, tuple[Row, ...], tuple[str, ...]]:
    """Columns, how many of them are texts, rows and notes. Differences are those of the printed numbers."""
    rows = [_row(spec, line, selected, own, facts) for line in spec.lines]
    columns = ("category", "task", "data set", "metric", "previous best", spec.model["model"], "difference")
    columns += ("this harness",) if own is not None else ()
    compared = [row for row in selected if matches(row, spec.model)]
    note = unreleased(compared)
    return columns, 4, tuple(rows), (note,) if note else ()


def _row(
    spec: TableSpec, line: Line, selected: Sequence[PublishedRow], own: pd.DataFrame | None, facts: Benchmarks
) -> Row:
    before = [_value(selected, column, {"model": line.previous}) for column in line.of]
    now = [_value(selected, column, spec.model) for column in line.of]
    changes = [f"{one - other:+.{DIGITS}f}" for one, other in zip(now, before, strict=True)]
    name = line.previous_title or line.previous
    cells = [Cell(text=text) for text in (line.category, line.task, line.dataset, line.metric)]
    cells += [
        Cell(text=f"{_joined(before)} ({name})", value=_alone(before)),
        Cell(
            text=_joined(now), value=_alone(now), best=all(one >= other for one, other in zip(now, before, strict=True))
        ),
        Cell(
            text=f"({' / '.join(changes)})", value=_alone([one - other for one, other in zip(now, before, strict=True)])
        ),
    ]
    if own is not None:
        cells.append(_own(line, own, facts))
    return Row(cells=tuple(cells))


def _value(selected: Sequence[PublishedRow], column: Column, wanted: dict[str, str]) -> Decimal:
    """The published value of a model, rounded; that of a derived metric is the mean of its parts."""
    found = [_one(selected, column, metric, wanted) for metric in DERIVED.get(column.metric, (column.metric,))]
    return rounded(sum(found) / len(found), DIGITS)


def _one(selected: Sequence[PublishedRow], column: Column, metric: str, wanted: dict[str, str]) -> Decimal:
    rows = [
        row
        for row in selected
        if (row.task, row.split, row.metric) == (column.task, column.split, metric)
        and column.protocol in ("", row.protocol)
        and matches(row, wanted)
    ]
    if len(rows) != 1:
        raise InputError(
            f"The table has {len(rows)} published values of {wanted} for {column.task} {column.split} {metric}, and a "
            "line of an overview needs one. Name its protocol, or the table that it is from."
        )
    return rows[0].value


def _joined(values: Sequence[Decimal]) -> str:
    return " / ".join(map(str, values))


def _alone(values: Sequence[Decimal]) -> float | None:
    return float(values[0]) if len(values) == 1 else None


def _own(line: Line, own: pd.DataFrame, facts: Benchmarks) -> Cell:
    """The best of the harness's results that can be compared with every number of a line."""
    found = []
    for column in line.of:
        same = (own["task"] == column.task) & (own["split"] == column.split) & (own["metric"] == column.metric)
        if column.own or not same.any():
            return Cell(missing=column.own or needs_server(column, facts) or NOT_RUN)
        found.append(next(own[same].sort_values("value", ascending=False).itertuples()))
    text = " / ".join(number(row, DIGITS) for row in found)
    return Cell(text=f"{text} ({found[0].label})", value=float(found[0].value) if len(found) == 1 else None)
