"""Which result rows may stand in a column of a table, and why others may not."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from leaderboards import leaks
from leaderboards.tables import Column

# What `reasons` reads of result rows, and what a table shows of them.
COLUMNS = (
    "task", "dataset", "split", "subset", "metric", "unit", "value", "low", "high", "n", "backbone", "weights",
    "weights_sha256", "released", "trained_on", "parameters", "resolution", "recipe", "recipe_altered",
    "predict_altered", "seed", "data_sha256", "metric_version", "server", "receipt", "leak", "started", "run_id",
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
    place = pd.Series(tuples(frame, ["task", "split"]), index=frame.index, dtype=object)
    found = pd.Series("", index=frame.index, dtype=object)

    def say(where: pd.Series, text: pd.Series | str) -> None:
        texts = text if isinstance(text, pd.Series) else pd.Series(text, index=frame.index, dtype=object)
        mask = where & (found == "")
        found[mask] = texts[mask]

    splits: dict[tuple[str, str], list[str]] = {}
    for column in columns:
        splits.setdefault((column.task, column.metric), []).append(column.split)
    metric = pd.Series(tuples(frame, ["task", "metric"]), index=frame.index, dtype=object)
    wanted = metric.map(splits)
    other = np.array(
        [split not in own for split, own in zip(frame["split"].to_numpy(dtype=object), wanted, strict=True)], dtype=bool
    )
    names = {key: " or ".join(dict.fromkeys(split or "unnamed" for split in own)) for key, own in splits.items()}
    barred = {
        (c.task, c.split, c.metric): c.own
        for c in columns
        if c.own and all(o.own for o in columns if (o.task, o.split, o.metric) == (c.task, c.split, c.metric))
    }
    whole = pd.Series(tuples(frame, ["task", "split", "metric"]), index=frame.index, dtype=object)
    say(frame["value"].isna(), "no value")
    leak = leaked(frame)
    say(leak != "", "leak: " + leak)
    say(pd.Series(other, frame.index), "split " + frame["split"] + ", the column has " + metric.map(names))
    say(whole.map(barred).notna(), whole.map(barred).fillna(""))
    sizes = pd.to_numeric(place.map(facts.sizes))
    partial = place.isin(set(published)) & sizes.notna() & (frame["samples"].astype(float) != sizes)
    counts = frame["samples"].map("{:,}".format) + " samples, the official split has " + sizes.map("{:,.0f}".format)
    other_set = place.isin(set(published)) & (frame["dataset"] != frame["task"].map(facts.datasets).fillna(""))
    say(other_set, "other data than the benchmark's, such as toy data: " + frame["dataset"])
    say(place.isin(set(published)) & (frame["subset"] != ""), "a part of the split: " + frame["subset"])
    say(partial, "toy or partial data: " + counts)  # rows from before `dataset` and `subset` said so
    say(_other_data(frame, place, found == ""), "other data than most rows of this split (data_sha256)")
    versions = pd.to_numeric(metric.map(facts.versions))
    old = versions.notna() & (frame["metric_version"].astype(float) != versions)
    say(old, "metric version " + frame["metric_version"].astype(str) + ", today " + versions.map("{:.0f}".format))
    altered = frame["recipe_altered"].where(frame["recipe_altered"] != "", frame["predict_altered"])
    say(altered != "", "altered recipe: " + altered)
    return found


def _other_data(frame: pd.DataFrame, place: pd.Series, comparable: pd.Series) -> pd.Series:
    """Check each row for a data hash that is not the most frequent one of its split; servers' rows have none."""
    hashed = comparable & (frame["data_sha256"] != "")
    counts = pd.DataFrame({"place": place[hashed], "data": frame["data_sha256"][hashed]}).value_counts()
    first: dict[tuple[str, str], str] = {}
    for at, data in counts.index:  # the most frequent first
        first.setdefault(at, data)
    return hashed & (frame["data_sha256"] != place.map(first))
