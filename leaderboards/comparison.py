"""Differences between runs from their stored replicates: paired intervals, p values, equivalence, tie groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from leaderboards.replicates import Replicates, difference

MARGIN = 0.2  # points; two results are equivalent when they are certainly closer than that
LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Seeds:
    """A difference over seeds of training. interval: Student's t over the differences of single seeds."""

    points: tuple[float, ...]
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One metric of one side minus that of the other.

    value: the difference of the means over seeds.
    low, high: its 95% interval over test samples, draw by draw.
    p: two-sided, of no difference; of the bootstrap's draws, so at least 1 / (draws + 1).
    equivalent: the interval is inside the margin.
    seeds: the spread over seeds, where both sides have several.
    """

    value: float
    low: float
    high: float
    p: float
    equivalent: bool
    draws: int
    seeds: Seeds | None = None


def compare(
    one: Mapping[str, Sequence[Replicates]],
    other: Mapping[str, Sequence[Replicates]],
    *,
    margin: float = MARGIN,
    collapsed: float = 0.0,
) -> Difference:
    """One side minus the other.

    Runs of one seed are averaged first, then seeds: a copy of a run adds no evidence.

    Args:
        one, other: the runs of each side by seed, each a single metric.
        margin: in the metric's unit.
        collapsed: half width of the interval where both sides are at the same end of the scale, 0 or 100%, by
            different predictions: no draw differs there. That of Newcombe's paired interval (Statistics in Medicine
            17:2635, 1998, method 10) is then the width of Wilson's interval of either side.

    Raises:
        InputError: replicates of different metrics or draws.
    """
    sides = [{seed: _mean([own.replicates for own in runs]) for seed, runs in side.items()} for side in (one, other)]
    values = [
        {seed: float(np.mean([own.value for own in runs])) for seed, runs in side.items()} for side in (one, other)
    ]
    first = next(iter(one.values()))[0]
    for runs in (*one.values(), *other.values()):
        for own in runs:
            difference(first, own)  # raises where draws are not the same
    draws = _mean(list(sides[0].values())) - _mean(list(sides[1].values()))
    value = float(np.mean(list(values[0].values())) - np.mean(list(values[1].values())))
    low, high = _interval(draws)
    identical = {own.predictions_sha256 for runs in one.values() for own in runs} == {
        own.predictions_sha256 for runs in other.values() for own in runs
    }
    if low == high == 0 and not identical:
        low, high = -collapsed, collapsed
    return Difference(
        value=value,
        low=low,
        high=high,
        p=p_value(draws),
        equivalent=-margin < low and high < margin,
        draws=len(draws),
        seeds=_seeds(*values),
    )


def p_value(draws: np.ndarray) -> float:
    """Two-sided p value of no difference: twice the share of draws on the other side of 0.

    It is (k + 1) / (draws + 1), so never 0 (Davison and Hinkley 1997, section 4.2); draws of 0 count for both sides.
    """
    known = draws[~np.isnan(draws)]
    tail = min((known <= 0).sum(), (known >= 0).sum())
    return float(min(1.0, 2 * (tail + 1) / (len(known) + 1)))


def holm(p_values: Sequence[float]) -> list[float]:
    """P values adjusted for their number (Holm, Scandinavian Journal of Statistics 6:65, 1979)."""
    order = np.argsort(p_values)
    adjusted = np.empty(len(p_values))
    largest = 0.0
    for rank, at in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[at]))
        adjusted[at] = largest
    return adjusted.tolist()


def tie_groups(values: Sequence[float], adjusted: Mapping[tuple[int, int], float], *, alpha: float = 0.05) -> list[int]:
    """The tie group of each side, 1 for the best.

    Sides are taken from the best to the worst; one that cannot be told from the best of the group joins it, the first
    that can begins the next.

    Args:
        values: of each side, the larger the better.
        adjusted: p value of each pair (first index smaller), adjusted for their number.
    """
    order = sorted(range(len(values)), key=lambda at: -values[at])
    groups = [0] * len(values)
    group, anchor = 1, order[0]
    for at in order:
        pair = (min(at, anchor), max(at, anchor))
        if at != anchor and adjusted[pair] < alpha:
            group, anchor = group + 1, at
        groups[at] = group
    return groups


def _seeds(one: Mapping[str, float], other: Mapping[str, float]) -> Seeds | None:
    """The spread over seeds: of paired differences where both sides have the same seeds, else Welch's."""
    if min(len(one), len(other)) < 2:
        return None
    tail = (1 + LEVEL) / 2
    if one.keys() == other.keys():
        from scipy.special import stdtrit  # Student's quantile; scipy.stats takes seconds to import

        points = np.array([one[seed] - other[seed] for seed in one])
        half = stdtrit(len(points) - 1, tail) * points.std(ddof=1) / np.sqrt(len(points))
        return Seeds(points=tuple(points.tolist()), low=float(points.mean() - half), high=float(points.mean() + half))
    from scipy import stats

    left, right = np.array(list(one.values())), np.array(list(other.values()))
    found = stats.ttest_ind(left, right, equal_var=False).confidence_interval(LEVEL)
    return Seeds(points=(), low=float(found.low), high=float(found.high))


def _mean(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.mean(arrays, axis=0)


def _interval(draws: np.ndarray) -> tuple[float, float]:
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.nanpercentile(draws, [tail, 100 - tail])
    return float(low), float(high)
