"""Rules for result rows that may stand in a column of a table, and reasons why others may not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress

import numpy as np
import pandas as pd

from leaderboards import leaks
from leaderboards.tables import Column

# What `reasons` reads of result rows, and what a table shows of them.
COLUMNS = (
    "task", "dataset", "split", "subset", "metric", "unit", "value", "low", "high", "n", "backbone", "weights",
    "weights_sha256", "released", "trained_on", "parameters", "resolution", "recipe", "recipe_altered",
    "predict_altered", "seed", "data_sha256", "metric_version", "server", "receipt", "leak", "started", "run_id",
    "grid", "variant",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Benchmarks:
    """Facts about the benchmarks, which this room does not know itself.

    datasets: what its authors call the data, by task.
    sizes: official number of samples by task and split.
    servers: who scores a split whose truth is not public, by task and split.
    versions: version of each metric today, by task and metric.
    """

    datasets: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[tuple[str, str], int] = field(default_factory=dict)
    servers: Mapping[tuple[str, str], str] = field(default_factory=dict)
    versions: Mapping[tuple[str, str], int] = field(default_factory=dict)


def relevant(frame: pd.DataFrame, columns: Collection[Column]) -> pd.DataFrame:
    """Rows of the metrics that some columns show, whatever their split; with all of COLUMNS."""
    shown = {(column.task, column.metric) for column in columns}
    mask = pd.Series(False, index=frame.index)
    for task, metric in shown:
        mask |= (frame["task"] == task) & (frame["metric"] == metric)
    return frame[mask].copy()


def leaked(frame: pd.DataFrame) -> pd.Series:
    """Why each row's score is flattered by its training data; empty where it is not known to be.

    Rows from before the column `leak` are judged by what is known of their weights.
    """
    names = ["task", "split", "released", "weights_sha256", "trained_on", "leak"]
    keys = tuples(frame, names)
    known = {}
    for task, split, released, sha256, trained_on, leak in set(keys):
        seen = trained_on.split() or leaks.declared(released, sha256)
        known[task, split, released, sha256, trained_on, leak] = leak or leaks.overlap(task, split, seen)
    return pd.Series([known[key] for key in keys], index=frame.index, dtype=str)


def tuples(frame: pd.DataFrame, names: Sequence[str]) -> list[tuple]:
    """The cells of some columns, row by row; many times faster than pandas' own iteration over texts."""
    return list(zip(*(frame[name].to_numpy(dtype=object) for name in names), strict=True))


def reasons(
    frame: pd.DataFrame, columns: Collection[Column], facts: Benchmarks, *, published: Collection[tuple[str, str]]
) -> pd.Series:
    """Why each row cannot stand in its column; empty where it can.

    Args:
        frame: rows of `relevant`, with the column `samples`, that of their whole split.
        published: task and split of the columns that have published values: rows beside these have to be of the whole
            official split.
    """
    keys = tuples(frame.assign(missing=frame["value"].isna(), leak=leaked(frame)), _DECIDING)
    judge = _Judge(columns, facts, frozenset(published))
    known = {key: judge.reason(**dict(zip(_DECIDING, key, strict=True))) for key in set(keys)}
    found = pd.Series([known[key] for key in keys], index=frame.index, dtype=object)
    found[_other_data(frame, found == "")] = "other data than most rows of this split (data_sha256)"
    return found


_DECIDING = (
    "task", "split", "metric", "dataset", "subset", "samples", "metric_version", "recipe_altered", "predict_altered",
    "missing", "leak",
)  # fmt: skip


@dataclass(frozen=True)
class _Judge:
    """Judge of rows that may stand in a table's columns; few differ in what decides it, so each case is judged once."""

    columns: Collection[Column]
    facts: Benchmarks
    published: frozenset[tuple[str, str]]

    def reason(
        self,
        *,
        task: str,
        split: str,
        metric: str,
        dataset: str,
        subset: str,
        samples: int,
        metric_version: int,
        recipe_altered: str,
        predict_altered: str,
        missing: bool,
        leak: str,
    ) -> str:
        same = [column for column in self.columns if (column.task, column.metric) == (task, metric)]
        fitting = [column for column in same if column.split == split]
        if missing:
            return "no value"
        if leak:
            return f"leak: {leak}"
        if not fitting:
            splits = dict.fromkeys(column.split or "unnamed" for column in same)
            return f"split {split}, the column has {' or '.join(splits)}"
        if all(column.own for column in fitting):
            return fitting[0].own
        if (task, split) in self.published and (other := self._other_samples(task, split, dataset, subset, samples)):
            return other
        version = self.facts.versions.get((task, metric))
        if version is not None and metric_version != version:
            return f"metric version {metric_version}, today {version}"
        altered = recipe_altered or predict_altered
        return f"altered recipe: {altered}" if altered else ""

    def _other_samples(self, task: str, split: str, dataset: str, subset: str, samples: int) -> str:
        if dataset != self.facts.datasets.get(task, ""):
            return f"other data than the benchmark's, such as toy data: {dataset}"
        if subset:
            return f"a part of the split: {subset}"
        size = self.facts.sizes.get((task, split))
        if size is not None and samples != size:  # rows from before `dataset` and `subset` said so
            return f"toy or partial data: {samples:,} samples, the official split has {size:,}"
        return ""


def _other_data(frame: pd.DataFrame, comparable: pd.Series) -> pd.Series:
    """Check each row for a data hash that is not the most frequent one of its split; servers' rows have none."""
    hashed = (comparable & (frame["data_sha256"] != "")).to_numpy(dtype=bool)
    keys = tuples(frame, ["task", "split", "data_sha256"])
    first: dict[tuple[str, str], str] = {}
    for (task, split, data), _ in Counter(compress(keys, hashed)).most_common():
        first.setdefault((task, split), data)
    other = [data != first.get((task, split)) for task, split, data in keys]
    return pd.Series(hashed & np.array(other, dtype=bool), index=frame.index)
