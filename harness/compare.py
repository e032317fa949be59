"""Comparing runs: the differences of all their metrics, ranks, and the samples that changed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from backbones.errors import InputError, UsageError
from harness import changes, runs
from harness.changes import Change
from harness.runs import Key, Run
from leaderboards import comparison
from leaderboards.comparison import MARGIN, Difference
from tasks import registry
from tasks.common.checking import read_labels, read_samples
from tasks.common.reading import repeated

Side = Mapping[str, Sequence[Run]]  # runs of one setting by seed


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The first side minus the other in one metric. adjusted: p value for all pairs of the metric (Holm)."""

    metric: Key
    unit: str
    one: str
    other: str
    difference: Difference
    adjusted: float


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """Sides in one metric from the best to the worst, with values and tie groups."""

    metric: Key
    sides: tuple[str, ...]
    values: tuple[float, ...]
    groups: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All that `compare` found. changed: how many samples' records differ and of how many, by split."""

    sides: tuple[str, ...]
    pairs: tuple[Pair, ...]
    ranks: tuple[Ranks, ...]
    changed: Mapping[str, tuple[int, int]]
    changes: tuple[Change, ...]
    pictures: tuple[Path, ...] = ()


def compare(
    paths: Sequence[str | Path],
    *,
    margin: float = MARGIN,
    data: str | Path | None = None,
    show: int = 0,
    out: str | Path = "compare",
    listed: int = 10,
) -> Comparison:
    """Compare runs from their stored replicates, and their predictions sample by sample.

    Args:
        paths: run folders, or files of replicates; those of one setting with several seeds are one side.
        margin: two results closer than that are equivalent, in the metric's unit.
        data: data folder, to rank the changed samples by what they gain and for pictures.
        show: write pictures of that many changed samples into `out`.
        listed: how many changed samples are listed.

    Raises:
        UsageError: less than two sides, or an option that does not fit.
        InputError: a run that was not scored, or runs without a metric in common.
    """
    given = [runs.read(path) for path in paths]
    if len(given) < 2:
        raise UsageError("There is nothing to compare: give two runs or more.")
    if again := repeated(run.path.resolve() for run in given):
        raise UsageError(f"The run {again[0]} is given twice, and differs from itself by nothing. Give another one.")
    sides = runs.by_setting(given)
    if len(sides) < 2:  # seeds of one setting, which are compared with one another then
        sides = {str(run.path): {run.seed: [run]} for run in given}
    if margin <= 0:
        raise UsageError(f"--margin is a difference above 0, not {margin:g}.")
    if show and data is None:
        raise UsageError("--show needs --data, for the images.")
    keys = _shared(sides)
    pairs, ranks = [], []
    for key in keys:
        found = _pairs(key, sides, margin)
        pairs += found
        if len(sides) > 2:
            ranks.append(_ranks(key, sides, found))
    counts, listing, pictures = _samples(sides, keys, data=data, show=show, out=Path(out), listed=listed)
    return Comparison(
        sides=tuple(sides),
        pairs=tuple(pairs),
        ranks=tuple(ranks),
        changed=counts,
        changes=tuple(listing),
        pictures=tuple(pictures),
    )


def _shared(sides: Mapping[str, Side]) -> list[Key]:
    """The metrics that every run has."""
    every = [run.metrics for side in sides.values() for own in side.values() for run in own]
    keys = [key for key in every[0] if all(key in metrics for metrics in every)]
    if not keys:
        raise InputError(
            "These runs have no metric of one task and split in common: "
            + "; ".join(f"{name} has {_metrics(side)}" for name, side in sides.items())
            + ". Compare runs of one task, and score them on one split."
        )
    return keys


def _metrics(side: Side) -> str:
    run = next(iter(side.values()))[0]
    return ", ".join(dict.fromkeys(f"{task} {split}" for task, split, _ in run.metrics)) or "none"


def _pairs(key: Key, sides: Mapping[str, Side], margin: float) -> list[Pair]:
    found = []
    for (one, left), (other, right) in itertools.combinations(sides.items(), 2):
        width = max(run.width(key) for side in (left, right) for own in side.values() for run in own)
        difference = comparison.compare(_of(key, left), _of(key, right), margin=margin, collapsed=width)
        unit = next(iter(left.values()))[0].metrics[key].unit
        found.append((one, other, unit, difference))
    adjusted = comparison.holm([difference.p for *_, difference in found])
    return [
        Pair(metric=key, unit=unit, one=one, other=other, difference=difference, adjusted=own)
        for (one, other, unit, difference), own in zip(found, adjusted, strict=True)
    ]


def _of(key: Key, side: Side) -> dict[str, list]:
    return {seed: [run.metrics[key] for run in own] for seed, own in side.items()}


def _ranks(key: Key, sides: Mapping[str, Side], pairs: Sequence[Pair]) -> Ranks:
    names = list(sides)
    values = [_value(key, side) for side in sides.values()]
    task, _, metric = key
    sign = 1 if registry.get(task).metric(metric).higher_is_better else -1
    adjusted = {(names.index(pair.one), names.index(pair.other)): pair.adjusted for pair in pairs}
    groups = comparison.tie_groups([sign * value for value in values], adjusted)
    order = sorted(range(len(names)), key=lambda at: -sign * values[at])
    return Ranks(
        metric=key,
        sides=tuple(names[at] for at in order),
        values=tuple(values[at] for at in order),
        groups=tuple(groups[at] for at in order),
    )


def _value(key: Key, side: Side) -> float:
    seeds = [sum(run.metrics[key].value for run in own) / len(own) for own in side.values()]
    return sum(seeds) / len(seeds)


def _samples(
    sides: Mapping[str, Side], keys: Sequence[Key], *, data: str | Path | None, show: int, out: Path, listed: int
) -> tuple[dict[str, tuple[int, int]], list[Change], list[Path]]:
    """Changed samples of the first two sides' first runs, split by split."""
    one, other = (next(iter(side.values()))[0] for side in list(sides.values())[:2])
    counts: dict[str, tuple[int, int]] = {}
    listing: list[Change] = []
    pictures: list[Path] = []
    for task, split in dict.fromkeys((task, split) for task, split, _ in keys):
        files = one.predictions(split), other.predictions(split)
        if None in files:
            continue
        found, total = changes.changed(*files)
        counts[f"{task} {split}"] = (len(found), total)
        if data is not None and found:
            adapter = registry.get(task)
            root = adapter.data_folder(Path(data))
            samples = read_samples(adapter, root, split)
            labels = read_labels(adapter, root)
            found = changes.with_gains(found, adapter, samples, labels=labels)
            if show and not adapter.pictures:
                raise UsageError(f"Task {task} has no pictures of its predictions: leave --show out.")
            pictures += changes.write_pictures(found[:show], adapter, samples, root, out / task / split, labels=labels)
        listing += found[:listed]
    return counts, listing, pictures
