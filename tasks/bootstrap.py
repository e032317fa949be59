"""Metrics with error bars: a metric is a function of how often each unit of a split counts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

RESAMPLES = 1000
EXTREME = 1e-9  # points; rounding of sums keeps a proportion that far from 0 or 100 at most

Statistic = Callable[[np.ndarray], np.ndarray | float]


@dataclass(frozen=True)
class Measurement:
    """One metric over one split.

    metric: its name in the adapter's list.
    samples: number of samples it is over (the row's n).
    units: number of independent units the samples form (images, sentences).
    statistic: weights, float [units] (how often each unit counts) -> the metric in its unit, or a vector [k] of
        metrics that share a computation. Measurements that share it hold the same object: it is computed once for all.
    unavailable: why the metric cannot be computed here and how to fix that; empty when it can.
    of: the class that it is the metric of; empty when it is of the whole split.
    index: of the metric in the statistic's vector.
    proportion: the metric is 100 × a mean of values between 0 and 1 that are mostly either, such as an accuracy.
    """

    metric: str
    samples: int
    units: int
    statistic: Statistic
    unavailable: str = ""
    of: str = ""
    index: int = 0
    proportion: bool = False

    def at(self, weights: np.ndarray) -> float:
        """The metric at some weights, float [units]."""
        return float(np.atleast_1d(self.statistic(weights))[self.index])

    @property
    def value(self) -> float:
        """The metric with each unit counted once. `values` computes those of a whole list faster."""
        return self.at(np.ones(self.units))

    def interval(self, *, seed: int, resamples: int = RESAMPLES, level: float = 0.95) -> tuple[float, float]:
        """Interval of this metric alone; see `estimates`."""
        _, low, high, _ = estimates([self], replicates([self], seed=seed, resamples=resamples), level=level)[0]
        return low, high


class Estimate(NamedTuple):
    """A metric, the ends of its interval, and the number of draws behind them; None where they are Wilson's."""

    value: float
    low: float
    high: float
    draws: int | None


@dataclass(frozen=True, eq=False)
class Replicates:
    """A metric at each draw.

    values: float64 [draws], in the metric's unit; NaN where a draw has no units that the metric is of.
    draws_sha256: of how often each draw has each unit, uint32 little-endian, draw by draw. Replicates of two runs
        can be subtracted where it is the same.
    """

    values: np.ndarray
    draws_sha256: str


def values(measurements: Sequence[Measurement]) -> list[float]:
    """The metrics with each unit counted once; a shared statistic is computed once."""
    found = {(units, at): np.atleast_1d(at(np.ones(units))) for units, at in _keys(measurements)}
    return [float(found[one.units, one.statistic][one.index]) for one in measurements]


def replicates(measurements: Sequence[Measurement], *, seed: int, resamples: int = RESAMPLES) -> list[Replicates]:
    """The metrics at bootstrap draws of their units (Efron 1979).

    Metrics with the same number of units share their draws, and a shared statistic is computed once per draw. Scoring
    passes the split's data hash as seed (`seed_of`), so draw number k of any two runs on one split, whoever made them,
    has the same units: their difference can be computed draw by draw.
    """
    keys = _keys(measurements)
    drawn: dict[tuple[int, Statistic], list[np.ndarray]] = {key: [] for key in keys}
    digests = {units: hashlib.sha256() for units, _ in keys}
    for units, digest in digests.items():
        shared = [key for key in keys if key[0] == units]
        for counts in _draws(units, seed=seed, resamples=resamples):
            digest.update(counts.astype("<u4"))
            weights = counts.astype(float)
            for key in shared:
                drawn[key].append(np.atleast_1d(key[1](weights)))
    found = {key: np.array(rows, dtype=float) for key, rows in drawn.items()}  # [draws, metrics]
    return [
        Replicates(found[one.units, one.statistic][:, one.index], digests[one.units].hexdigest())
        for one in measurements
    ]


def estimates(
    measurements: Sequence[Measurement], drawn: Sequence[Replicates], *, level: float = 0.95
) -> list[Estimate]:
    """Metrics with percentile bootstrap intervals; Wilson's interval for proportions of 0 or 100 percent.

    A draw of units that are all right is all right again, so a percentile interval collapses there, however few units
    there are.

    Args:
        drawn: the replicates of each measurement.
    """
    tail = 100 * (1 - level) / 2
    found = []
    for one, value, own in zip(measurements, values(measurements), drawn, strict=True):
        if one.proportion and min(value, 100 - value) < EXTREME:
            found.append(Estimate(value, *_extreme_interval(one.units, value, level), None))
        else:
            low, high = np.nanpercentile(own.values, [tail, 100 - tail])
            found.append(Estimate(value, float(low), float(high), len(own.values)))
    return found


def _extreme_interval(units: int, value: float, level: float) -> tuple[float, float]:
    """Wilson's score interval (JASA 22:209, 1927; Brown, Cai and DasGupta 2001, section 3.1.1) at 0 or 100 percent."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    width = 100 * z**2 / (units + z**2)
    return (value, width) if value < 50 else (100 - width, value)


def _keys(measurements: Sequence[Measurement]) -> list[tuple[int, Statistic]]:
    return list(dict.fromkeys((one.units, one.statistic) for one in measurements))


def _draws(units: int, *, seed: int, resamples: int) -> Iterator[np.ndarray]:
    """Yield how often each unit is drawn, int [units]."""
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        yield np.bincount(rng.integers(units, size=units), minlength=units)


def seed_of(data_sha256: str) -> int:
    """The seed of the bootstrap draws over data with this hash (hex digits)."""
    return int(data_sha256, 16)


def weighted_sum(weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Sum of rows [units, …] with weights [units].

    Statistics use it in place of `weights @ rows`: BLAS splits that small product among threads that wait for each
    other actively, which takes hundreds of times as long on a busy machine.
    """
    return np.einsum("u,u...->...", weights, rows)


def unavailable(metric: str, reason: str, *, samples: int) -> Measurement:
    """A metric that cannot be computed here; `reason` says what is missing and how to fix that."""
    return Measurement(metric, samples, samples, lambda weights: float("nan"), unavailable=reason)


def mean(
    metric: str, values: Sequence[float] | np.ndarray, *, units: Sequence | None = None, proportion: bool = False
) -> Measurement:
    """100 × the mean of one value per sample (hits, scores in [0, 1]), as a percentage.

    units: the unit of each sample, by any hashable name; each sample is its own when not given.
    proportion: see `Measurement`.
    """
    values = np.asarray(values, dtype=float)
    if units is None:
        sums, counts = values, np.ones(len(values))
    else:
        _, index = np.unique(np.asarray(units), return_inverse=True)
        sums, counts = np.bincount(index, values), np.bincount(index).astype(float)

    def statistic(weights: np.ndarray) -> float:
        total = weighted_sum(weights, counts)
        return float(100 * weighted_sum(weights, sums) / total) if total else float("nan")

    return Measurement(metric, len(values), len(sums), statistic, proportion=proportion)
