"""The table of a grid: spread over seeds, differences to the baseline with both intervals, published values beside.

Seeds and test samples are different questions. `difference.seeds` is Student's t over the differences of single seeds,
`difference.low` and `high` a bootstrap over test samples of the difference of the means over seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from leaderboards import comparison
from leaderboards.comparison import Difference
from leaderboards.grids import Grid, GridColumn, GridRow
from leaderboards.published import PublishedRow
from leaderboards.replicates import Replicates
from leaderboards.rows import ResultRow
from leaderboards.spread import standard_deviation

Place = tuple[str, str, int]  # row, column, seed


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """One finished cell. replicates: read when first asked for, since a table of values alone needs none."""

    row: ResultRow
    replicates: Callable[[], Replicates]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One row of a column.

    values: of the seeds that are done, in the order of `seeds`. sd: sample standard deviation, None of one seed.
    difference: to the baseline, over the seeds that both have; None of the baseline itself.
    failed: why seeds have no value. missing: seeds that were not run.
    published: value of the paper, and published_difference that to its baseline; no runs of ours.
    left_out: why the row is not run.
    """

    name: str
    seeds: tuple[int, ...] = ()
    values: tuple[float, ...] = ()
    mean: float | None = None
    sd: float | None = None
    difference: Difference | None = None
    failed: Mapping[int, str]
    missing: tuple[int, ...] = ()
    published: Decimal | None = None
    published_difference: Decimal | None = None
    left_out: str = ""


@dataclass(frozen=True, kw_only=True)
class ColumnTable:
    """The rows of one column. dataset: of the results, where there are some."""

    title: str
    task: str
    split: str
    metric: str
    unit: str = ""
    dataset: str = ""
    subset: str = ""
    lines: tuple[Line, ...]


@dataclass(frozen=True, kw_only=True)
class GridTable:
    """A grid filled with what has been run. sources: of the published values."""

    name: str
    title: str
    baseline: str
    columns: tuple[ColumnTable, ...]
    sources: tuple[str, ...] = ()


def fill(
    grid: Grid,
    results: Mapping[Place, CellResult],
    failed: Mapping[Place, str],
    published: Sequence[PublishedRow],
) -> GridTable:
    """Fill a grid's table.

    Args:
        results: of finished cells.
        failed: why cells have no result.
        published: numbers of papers, of which rows of the grid name theirs.
    """
    shown = [row for row in published if any(_names(own, row) for own in grid.rows)]
    columns = tuple(_column(grid, column, results, failed, shown) for column in grid.columns)
    sources = tuple(dict.fromkeys(row.source for row in shown))
    return GridTable(
        name=grid.name, title=grid.title or grid.name, baseline=grid.baseline, columns=columns, sources=sources
    )


def _column(
    grid: Grid,
    column: GridColumn,
    results: Mapping[Place, CellResult],
    failed: Mapping[Place, str],
    published: Sequence[PublishedRow],
) -> ColumnTable:
    own = {
        row.name: {seed: results[place] for seed in grid.seeds if (place := (row.name, column.name, seed)) in results}
        for row in grid.run_rows
    }
    values = {row.name: _published(row, column, published) for row in grid.rows}
    against = own[grid.baseline]
    lines = tuple(_line(grid, column, row, own.get(row.name, {}), against, failed, values) for row in grid.rows)
    first = next((cell.row for cells in own.values() for cell in cells.values()), None)
    facts = {name: getattr(first, name) for name in ("unit", "dataset", "subset")} if first else {}
    return ColumnTable(
        title=column.name, task=column.task, split=column.split, metric=column.metric, lines=lines, **facts
    )


def _line(
    grid: Grid,
    column: GridColumn,
    row: GridRow,
    cells: Mapping[int, CellResult],
    against: Mapping[int, CellResult],
    failed: Mapping[Place, str],
    published: Mapping[str, Decimal | None],
) -> Line:
    seeds = tuple(cells)
    values = tuple(cells[seed].row.value for seed in seeds)
    value, baseline = published[row.name], published.get(grid.baseline)
    apart = value - baseline if value is not None and baseline is not None and row.name != grid.baseline else None
    reasons = {seed: failed[place] for seed in grid.seeds if (place := (row.name, column.name, seed)) in failed}
    return Line(
        name=row.name,
        seeds=seeds,
        values=values,
        mean=sum(values) / len(values) if values else None,
        sd=standard_deviation(values),
        difference=None if row.name == grid.baseline else _difference(cells, against),
        failed=reasons,
        missing=() if row.left_out else tuple(seed for seed in grid.seeds if seed not in cells and seed not in reasons),
        published=value,
        published_difference=apart,
        left_out=row.left_out,
    )


def _difference(cells: Mapping[int, CellResult], against: Mapping[int, CellResult]) -> Difference | None:
    """The row minus the baseline over the seeds that both have; None where there is none."""
    both = [seed for seed in cells if seed in against]
    if not both:
        return None
    sides = [{str(seed): [side[seed].replicates()] for seed in both} for side in (cells, against)]
    width = max((_width(side[seed].row) for side in (cells, against) for seed in both), default=0.0)
    return comparison.compare(*sides, collapsed=width)


def _width(row: ResultRow) -> float:
    return 0.0 if row.low is None or row.high is None else row.high - row.low


def _names(row: GridRow, published: PublishedRow) -> bool:
    return bool(row.published) and all(getattr(published, name) == value for name, value in row.published.items())


def _published(row: GridRow, column: GridColumn, published: Sequence[PublishedRow]) -> Decimal | None:
    """The published value of a row and a column: of its split, or of one that the source does not name."""
    found = [
        one
        for one in published
        if _names(row, one)
        and (one.task, one.metric) == (column.task, column.metric)
        and one.split in ("", column.split)
    ]
    return found[0].value if found else None
