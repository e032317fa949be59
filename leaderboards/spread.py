"""Mean and standard deviation of results over the seeds of one setting."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from leaderboards.rows import ResultRow

FEW = 6  # fewer seeds than that are shown one by one: their spread is hardly known


@dataclass(frozen=True, kw_only=True)
class Spread:
    """One metric over seeds. values: by seed, in the order of `seeds`; sd: sample standard deviation, None of one."""

    task: str
    split: str
    metric: str
    unit: str
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    mean: float
    sd: float | None


def over_seeds(rows: Iterable[ResultRow]) -> list[Spread]:
    """The spread of each metric, in the order of the rows; rows without a value or a seed are left out.

    Of two rows of one seed the last counts: a seed that was run twice adds no evidence.
    """
    groups: dict[tuple[str, str, str, str], dict[int, float]] = {}
    for row in rows:
        if row.value is not None and row.seed is not None:
            groups.setdefault((row.task, row.split, row.metric, row.unit), {})[row.seed] = row.value
    return [_spread(*key, found) for key, found in groups.items()]


def _spread(task: str, split: str, metric: str, unit: str, found: dict[int, float]) -> Spread:
    values = tuple(found.values())
    return Spread(
        task=task, split=split, metric=metric, unit=unit, seeds=tuple(found), values=values,
        mean=math.fsum(values) / len(values), sd=standard_deviation(values),
    )  # fmt: skip


def standard_deviation(values: Sequence[float]) -> float | None:
    """Sample standard deviation (over n - 1); None of a single value."""
    if len(values) < 2:
        return None
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
