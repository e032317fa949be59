"""Cells and rows of a filled table, and the numbers in them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

import pandas as pd

from leaderboards.comparable import Benchmarks
from leaderboards.published import PublishedRow
from leaderboards.tables import Column

NOT_PUBLISHED = "not in the source"
NOT_RUN = "not run"
TIE = "≈"
OWN = "▸"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One place of a table.

    text: the number as it is printed, or a text; empty where there is none.
    value: the number.
    best: no value of the column is better.
    tie: the 95% interval holds the best value of the column's other rows.
    missing: why there is no number.
    """

    text: str = ""
    value: float | None = None
    best: bool = False
    tie: bool = False
    missing: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row; own: it is the harness's."""

    cells: tuple[Cell, ...]
    own: bool = False


def unreleased(rows: Iterable[PublishedRow]) -> str:
    """A note on the models of BEiT-3's authors whose weights nobody has."""
    names = dict.fromkeys(row.name for row in rows if row.model == "BEiT-3" and not row.released and row.size)
    return f"Weights never released, so no run can repeat these rows: {', '.join(names)}." if names else ""


def needs_server(column: Column, facts: Benchmarks) -> str:
    """Why a split cannot be scored here; empty where it can."""
    server = facts.servers.get((column.task, column.split))
    return f"needs the test server ({server})" if server else ""


def number(row: tuple, digits: int) -> str:
    """A value with its 95% interval, where it has one."""
    interval = "" if pd.isna(row.low) else f" ({row.low:.{digits}f}–{row.high:.{digits}f})"
    return f"{row.value:.{digits}f}{interval}"


def rounded(value: Decimal, digits: int) -> Decimal:
    """A decimal with so many digits, halves away from zero as the papers round."""
    return value.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
