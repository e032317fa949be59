"""A filled table: published rows and result rows side by side, and result rows that cannot be compared apart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from leaderboards import comparable
from leaderboards.cells import NOT_PUBLISHED, NOT_RUN, Cell, Row, needs_server, number, unreleased
from leaderboards.comparable import Benchmarks
from leaderboards.overview import overview
from leaderboards.published import PublishedRow
from leaderboards.tables import Column, TableSpec, matches


@dataclass(frozen=True, kw_only=True)
class Apart:
    """A result that no column of the table can hold. rows: how many results are like it; it is the latest of them."""

    label: str
    task: str
    split: str
    metric: str
    text: str
    value: float | None
    reason: str
    rows: int


@dataclass(frozen=True, kw_only=True)
class Board:
    """A filled table. texts: how many columns at the front hold texts."""

    title: str
    columns: tuple[str, ...]
    texts: int
    rows: tuple[Row, ...]
    apart: tuple[Apart, ...]
    notes: tuple[str, ...]


def fill(spec: TableSpec, published: Iterable[PublishedRow], results: pd.DataFrame | None, facts: Benchmarks) -> Board:
    """A table with its published rows and with the result rows that belong into it.

    Args:
        results: as `leaderboards.results.gather` reads them; None for the published rows alone.
    """
    selected = [row for row in published if spec.selects(row)]
    own = _own_rows(spec, selected, results, facts) if results is not None else None
    if spec.lines:
        columns, texts, rows, notes = overview(spec, selected, _comparable(own), facts)
    else:
        columns, texts, rows, notes = _models(spec, selected, _comparable(own), facts)
    apart = _apart(own) if own is not None else ()
    return Board(title=spec.title, columns=columns, texts=texts, rows=rows, apart=apart, notes=notes)


def _own_rows(
    spec: TableSpec, selected: Sequence[PublishedRow], results: pd.DataFrame, facts: Benchmarks
) -> pd.DataFrame:
    """Result rows of the table's metrics with their `label`, and the `reason` why they cannot stand in it."""
    samples = results.groupby(["run_id", "task", "split"], sort=False)["n"].transform("max")
    own = comparable.relevant(results.assign(samples=samples), spec.measured)
    places = {(row.task, row.split) for row in selected}
    own["reason"] = comparable.reasons(own, spec.measured, facts, published=places)
    own["label"] = labels(own)
    return own.sort_values("started", kind="stable")


def labels(frame: pd.DataFrame) -> pd.Series:
    """A name for each row's model: its row of a grid, its weights, or else its backbone, with seed and size."""
    names = ["grid", "variant", "released", "weights", "backbone", "seed", "resolution", "server"]
    keys = comparable.tuples(frame[names].astype(object).fillna(""), names)
    known = {key: _label(*map(str, key)) for key in set(keys)}
    return pd.Series([known[key] for key in keys], index=frame.index, dtype=str)


def _label(
    grid: str, variant: str, released: str, weights: str, backbone: str, seed: str, resolution: str, server: str
) -> str:
    stem = released or weights.rpartition(".")[0] or weights
    parts = [f"{backbone} from {stem}" if backbone and stem and stem != backbone else backbone or stem or "unnamed"]
    if grid:
        parts = [f"{grid}: {variant}", backbone]
    parts += [f"{resolution} px"] if resolution else []
    parts += [f"seed {seed}"] if seed else []
    parts += [f"scored by {server}"] if server else []
    return ", ".join(parts)


def _comparable(own: pd.DataFrame | None) -> pd.DataFrame | None:
    return None if own is None else own[own["reason"] == ""]


def _models(
    spec: TableSpec, selected: Sequence[PublishedRow], own: pd.DataFrame | None, facts: Benchmarks
) -> tuple[tuple[str, ...], int, tuple[Row, ...], tuple[str, ...]]:
    """Columns, how many of them are texts, rows and notes of a table with a row per model."""
    lines = _published_lines(spec, selected)
    digits = [_digits(column, selected) for column in spec.columns]
    rows = [
        Row(cells=(*_texts(spec, name, line), *(_published_cell(line[at]) for at in range(len(spec.columns)))))
        for name, line in lines
    ]
    older = 0
    if own is not None:
        latest = own.drop_duplicates(["label", "task", "split", "metric"], keep="last")
        older, own = len(own) - len(latest), latest
        rows += _own_lines(spec, own, digits, facts)
    texts = 1 + len(spec.facts)
    rows = _marked(rows, texts, own_intervals=_intervals(own))
    columns = ("model", *(fact.replace("_", " ") for fact in spec.facts), *(c.title or c.metric for c in spec.columns))
    notes = [unreleased(selected)]
    notes += [f"{older:,} older results of the same model are left out."] if older else []
    return columns, texts, tuple(rows), tuple(note for note in notes if note)


def _published_lines(spec: TableSpec, selected: Sequence[PublishedRow]) -> list[tuple[str, list[PublishedRow | None]]]:
    """A name and the row of each column; a second value of a column begins a line of its own."""
    lines: dict[tuple, list[PublishedRow | None]] = {}
    for row in _ordered(spec, selected):
        for at, column in enumerate(spec.columns):
            if not _in_column(row, column):
                continue
            key = next(
                (k for k in _keys(row, spec) if k not in lines or lines[k][at] is None),
            )
            lines.setdefault(key, [None] * len(spec.columns))[at] = row
    return [(" ".join(part for part in key[0] if part), line) for key, line in lines.items()]


def _keys(row: PublishedRow, spec: TableSpec) -> Iterable[tuple]:
    """Names of lines that a row may stand in, the plain name first; the facts of a line are those of all its rows."""
    facts = tuple(getattr(row, name) for name in spec.facts)
    yield ((row.name,), facts)
    yield ((row.name, f"{row.resolution} px" if row.resolution else ""), facts)
    number = 2
    while True:
        yield ((row.name, f"({number})"), facts)
        number += 1


def _ordered(spec: TableSpec, selected: Sequence[PublishedRow]) -> Sequence[PublishedRow]:
    if not spec.models:
        return selected
    return [row for wanted in spec.models for row in selected if matches(row, wanted)]


def _in_column(row: PublishedRow, column: Column) -> bool:
    same = (row.task, row.split, row.metric) == (column.task, column.split, column.metric)
    return same and column.protocol in ("", row.protocol)


def _texts(spec: TableSpec, name: str, line: Sequence[PublishedRow | None]) -> list[Cell]:
    row = next(row for row in line if row is not None)
    shown = {True: "yes", False: "no", None: ""}
    facts = [getattr(row, fact) for fact in spec.facts]
    return [Cell(text=name), *(Cell(text=str(shown.get(fact, fact))) for fact in facts)]


def _published_cell(row: PublishedRow | None) -> Cell:
    return Cell(missing=NOT_PUBLISHED) if row is None else Cell(text=str(row.value), value=float(row.value))


def _digits(column: Column, selected: Sequence[PublishedRow]) -> int:
    """Decimals of a column: as many as its published values have at most."""
    return max((row.digits for row in selected if _in_column(row, column)), default=2)


def _own_lines(spec: TableSpec, own: pd.DataFrame, digits: Sequence[int], facts: Benchmarks) -> list[Row]:
    lines: dict[str, list[Cell]] = {}
    empty = [Cell(missing=column.own or needs_server(column, facts) or NOT_RUN) for column in spec.columns]
    places = {(c.task, c.split, c.metric): at for at, c in enumerate(spec.columns) if not c.own}
    for row in own.itertuples():
        at = places[row.task, row.split, row.metric]
        lines.setdefault(row.label, list(empty))[at] = Cell(text=number(row, digits[at]), value=float(row.value))
    blank = [Cell()] * len(spec.facts)
    return [Row(cells=(Cell(text=label), *blank, *cells), own=True) for label, cells in lines.items()]


def _intervals(own: pd.DataFrame | None) -> dict[tuple[str, float], tuple[float, float]]:
    if own is None:
        return {}
    bounded = own[own["low"].notna()]
    return {(row.label, float(row.value)): (float(row.low), float(row.high)) for row in bounded.itertuples()}


def _marked(
    rows: Sequence[Row], texts: int, *, own_intervals: dict[tuple[str, float], tuple[float, float]]
) -> list[Row]:
    """Rows with the best value of each column marked, and own values that their interval does not tell from it."""
    cells = [list(row.cells) for row in rows]
    for at in range(texts, len(cells[0]) if cells else 0):
        known = [(line, own[at].value) for line, own in enumerate(cells) if own[at].value is not None]
        for line, value in known:
            others = [other for place, other in known if place != line]
            best = value >= max(others, default=value)
            low, high = (
                own_intervals.get((cells[line][0].text, value), (None, None)) if rows[line].own else (None, None)
            )
            tie = bool(others) and low is not None and low <= max(others) <= high
            cells[line][at] = replace(cells[line][at], best=best, tie=tie)
    return [replace(row, cells=tuple(own)) for row, own in zip(rows, cells, strict=True)]


def _apart(own: pd.DataFrame) -> tuple[Apart, ...]:
    left = own[own["reason"] != ""]
    keys = ["label", "task", "split", "metric", "reason"]
    latest = left.assign(rows=left.groupby(keys, sort=False)["reason"].transform("size"))
    latest = latest.drop_duplicates(keys, keep="last").astype(dict.fromkeys(("value", "low", "high"), float))
    return tuple(
        Apart(
            label=row.label,
            task=row.task,
            split=row.split,
            metric=row.metric,
            text="" if math.isnan(row.value) else number(row, 2),
            value=None if math.isnan(row.value) else row.value,
            reason=row.reason,
            rows=row.rows,
        )
        for row in latest[[*keys, "rows", "value", "low", "high"]].itertuples()
    )
