"""A grid's table as rows of texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from leaderboards.grids.table import ColumnTable, GridTable, Line
from leaderboards.spread import FEW

COLUMNS = (
    "row", "mean", "standard deviation", "seeds", "single seeds", "difference", "95% over seeds", "95% over samples",
    "not done",
)  # fmt: skip
PUBLISHED = "published: "
DIGITS = 2


def lines(column: ColumnTable) -> list[tuple[str, ...]]:
    """The rows of a column as texts of `COLUMNS`; published values are rows of their own kind, below."""
    return [_own(line) for line in column.lines if not line.left_out] + [*_published(column)]


def _own(line: Line) -> tuple[str, ...]:
    found = line.difference
    seeds = found.seeds if found else None
    few = len(line.values) < FEW
    return (
        line.name,
        _number(line.mean),
        _number(line.sd),
        str(len(line.values)),
        " ".join(map(_number, line.values)) if few else "",
        f"{found.value:+.{DIGITS}f}" if found else "",
        _interval(seeds.low, seeds.high) if seeds else "",
        _interval(found.low, found.high) if found else "",
        "; ".join(_not_done(line)),
    )


def _not_done(line: Line) -> Iterator[str]:
    for reason in dict.fromkeys(line.failed.values()):
        yield f"{_seeds([seed for seed, own in line.failed.items() if own == reason])}: {reason}"
    if line.missing:
        yield f"{_seeds(line.missing)}: not run"


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _published(column: ColumnTable) -> Iterator[tuple[str, ...]]:
    for line in column.lines:
        if line.published is not None:
            apart = "" if line.published_difference is None else f"{line.published_difference:+}"
            yield (PUBLISHED + line.name, str(line.published), "", "", "", apart, "", "", line.left_out)


def legend(table: GridTable) -> Iterator[str]:
    """Sentences below a grid's table."""
    yield (
        f"Differences are to the row {table.baseline!r}, over the seeds that both rows have: over seeds by Student's t "
        "of their differences, over test samples by the bootstrap of the mean over seeds. The two answer different "
        "questions, and neither is adjusted for the number of rows."
    )
    for column in table.columns:
        if column.dataset:
            part = f", {column.subset} samples" if column.subset else ""
            yield f"{column.title}: {column.task} {column.split} {column.metric}, {column.dataset}{part}"
    if table.sources:
        yield f"Published values: {'; '.join(table.sources)}. They are other models on other data: compare directions."


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.{DIGITS}f}"


def _interval(low: float, high: float) -> str:
    return f"{low:+.{DIGITS}f} – {high:+.{DIGITS}f}"


def records(table: GridTable) -> list[Mapping[str, object]]:
    """A JSON-able record for each row of each column."""
    found = []
    for column in table.columns:
        for line in column.lines:
            apart = line.difference
            seeds = apart.seeds if apart else None
            found.append(
                {
                    "column": column.title, "task": column.task, "split": column.split, "metric": column.metric,
                    "unit": column.unit, "dataset": column.dataset, "subset": column.subset, "row": line.name,
                    "seeds": list(line.seeds), "values": list(line.values), "mean": line.mean, "sd": line.sd,
                    "difference": apart and apart.value,
                    "over_samples": [apart.low, apart.high] if apart else None,
                    "over_seeds": [seeds.low, seeds.high] if seeds else None,
                    "points": list(seeds.points) if seeds else [],
                    "failed": {str(seed): reason for seed, reason in line.failed.items()},
                    "missing": list(line.missing),
                    "published": None if line.published is None else float(line.published),
                    "published_difference":
                        None if line.published_difference is None else float(line.published_difference),
                    "left_out": line.left_out,
                }
            )  # fmt: skip
    return found
