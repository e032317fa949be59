"""Metrics with error bars: a metric is a function of how often each unit of a split counts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000
REMEMBERED = 10_000  # draws that a shared computation keeps; of 80 classes' AP 7 MB


@dataclass(frozen=True)
class Measurement:
    """One metric over one split.

    metric: its name in the adapter's list.
    samples: how many samples it is over (the row's n).
    units: how many independent units the samples form (images, sentences).
    statistic: weights [units] (how often each unit counts) -> the metric in its unit.
    unavailable: why the metric cannot be computed here and what would mend it; empty when it can.
    of: the class that it is the metric of; empty when it is of the whole split.
    """

    metric: str
    samples: int
    units: int
    statistic: Callable[[np.ndarray], float]
    unavailable: str = ""
    of: str = ""

    @property
    def value(self) -> float:
        return self.statistic(np.ones(self.units))

    def interval(self, *, seed: int, resamples: int = RESAMPLES, level: float = 0.95) -> tuple[float, float]:
        """Percentile bootstrap interval (Efron 1979) over the units.

        The same seed draws the same units for every metric with as many of them. Scoring takes the split's data hash
        (`seed_of`), so draw number k of any two runs on one split, whoever made them, has the same units: their
        difference can be computed draw by draw.
        """
        rng = np.random.default_rng(seed)
        draws = [
            self.statistic(np.bincount(rng.integers(self.units, size=self.units), minlength=self.units).astype(float))
            for _ in range(resamples)
        ]
        tail = 100 * (1 - level) / 2
        low, high = np.nanpercentile(draws, [tail, 100 - tail])
        return float(low), float(high)


def seed_of(data_sha256: str) -> int:
    """The seed of the bootstrap draws over data with this hash (hex digits)."""
    return int(data_sha256, 16)


def remembered(compute: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """The same function of weights [units], which knows its last answers.

    For metrics that share a computation: each of them asks it about the same draws.
    """
    known: dict[bytes, np.ndarray] = {}

    def at(weights: np.ndarray) -> np.ndarray:
        key = hashlib.sha256(np.ascontiguousarray(weights, dtype=float)).digest()
        if key not in known:
            if len(known) >= REMEMBERED:
                known.clear()
            known[key] = compute(weights)
        return known[key]

    return at


def unavailable(metric: str, reason: str, *, samples: int) -> Measurement:
    """A metric that cannot be computed here; `reason` says what is missing and how to mend it."""
    return Measurement(metric, samples, samples, lambda weights: float("nan"), unavailable=reason)


def mean(metric: str, values: Sequence[float] | np.ndarray, *, units: Sequence | None = None) -> Measurement:
    """100 × the mean of one value per sample (hits, scores in [0, 1]), as a percentage.

    units: the unit of each sample, by any hashable name; each sample is its own when not given.
    """
    values = np.asarray(values, dtype=float)
    if units is None:
        sums, counts = values, np.ones(len(values))
    else:
        _, index = np.unique(np.asarray(units), return_inverse=True)
        sums, counts = np.bincount(index, values), np.bincount(index).astype(float)

    def statistic(weights: np.ndarray) -> float:
        total = weights @ counts
        return float(100 * (weights @ sums) / total) if total else float("nan")

    return Measurement(metric, len(values), len(sums), statistic)
