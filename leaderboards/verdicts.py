"""Verdicts: whether a result reproduces a published number."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from leaderboards.cells import rounded
from leaderboards.comparable import Benchmarks
from leaderboards.published import INFERENCE, ROUNDING, PublishedRow
from leaderboards.rows import UNNAMED

SAME = "same digits"
WITHIN = "within noise"
OFF = "off"
CANNOT_TELL = "cannot tell"
NOT_COMPARABLE = "not comparable"
NOT_REPRODUCIBLE = "not reproducible here"
VERDICTS = (SAME, WITHIN, OFF, CANNOT_TELL, NOT_COMPARABLE, NOT_REPRODUCIBLE)

NORMAL = 1.96
EXACT = 1e-9  # points; what floating-point sums of decimals may be off
# Parameters of backbone and head in millions, with room for heads (arXiv 2208.10442, Table 2; unilm beit3/README.md).
_PARAMETERS = {"base": (80, 330), "large": (280, 800), "giant": (950, 2300)}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A published number and what a result says about it.

    ours: mean of the results.
    low, high: 95% interval of ours minus the published number; what it contains follows from the tolerance's kind.
    reason: why there is no answer, or what the interval is.
    """

    published: PublishedRow
    verdict: str
    reason: str
    ours: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def difference(self) -> float | None:
        return None if self.ours is None else self.ours - float(self.published.value)


def judge(published: PublishedRow, results: Sequence[Mapping[str, Any]], facts: Benchmarks) -> Verdict:
    """Judge results of one setting, of one seed each, by an equivalence test.

    The whole interval of the difference inside the tolerance is "within noise", outside is "off", anything else
    "cannot tell". The same weights on the same data leave no sampling error: their interval is half a printed digit to
    each side. Trained again, the interval is Student's t over our seeds, or, of a single seed, the bootstrap's over
    test samples, which then bounds the noise from above; the published spread, where measured, is added in quadrature.

    Args:
        results: rows by column of `ResultRow`.
    """
    for row in results:
        if reason := unlike(published, row, facts):
            return Verdict(published=published, verdict=NOT_COMPARABLE, reason=reason, ours=_number(row["value"]))
    ours = statistics.fmean(float(row["value"]) for row in results)
    target, tolerance = float(published.value), float(published.tolerance)
    half = 0.5 * 10.0**-published.digits
    noise, reason = _noise(published, results)
    low, high = ours - target - noise[0] - half, ours - target + noise[1] + half
    if rounded(Decimal(repr(ours)), published.digits) == published.value:
        verdict = SAME
    elif max(-low, high) <= tolerance + EXACT:
        verdict = WITHIN
    elif low > tolerance or high < -tolerance:
        verdict = OFF
    else:
        verdict = CANNOT_TELL
    return Verdict(published=published, verdict=verdict, reason=reason, ours=ours, low=low, high=high)


def unlike(published: PublishedRow, row: Mapping[str, Any], facts: Benchmarks) -> str:
    """Why a result cannot be held against a published number; empty where it can."""
    if _number(row.get("value")) is None:
        return str(row.get("note") or "no value")
    for name in ("task", "split", "metric", "unit"):
        if row[name] != getattr(published, name):
            return f"{name} {row[name]}, published for {getattr(published, name) or 'no named one'}"
    place = (published.task, published.split)
    dataset = facts.datasets.get(published.task, "")
    if (dataset and row["dataset"] != dataset) or (not dataset and str(row["dataset"]).startswith(UNNAMED)):
        return f"other data: {row['dataset']}"
    if row.get("subset"):
        return f"a part of the split: {row['subset']}"
    version = facts.versions.get((published.task, published.metric))
    if version is not None and int(row["metric_version"]) != version:
        return f"metric version {row['metric_version']}, today {version}"
    if altered := row.get("recipe_altered") or row.get("predict_altered"):
        return f"altered recipe: {altered}"
    if row.get("leak"):
        return f"leak: {row['leak']}"
    return wrong_model(published, row) or _barred(published, place)


def _barred(published: PublishedRow, place: tuple[str, str]) -> str:
    if not place[1]:
        return "the source names no split"
    if published.protocol.startswith("multi-scale"):
        return f"published with {published.protocol}, and the harness predicts at one scale"
    return ""


def wrong_model(published: PublishedRow, row: Mapping[str, Any]) -> str:
    """The confusion of models, sizes, resolutions or weights that a result shows; empty where it shows none."""
    stem = row.get("released") or str(row.get("weights", "")).rpartition(".")[0]
    if published.weights and stem and not row.get("recipe") and stem != published.weights:
        return f"weights {stem}, published for {published.weights}"
    parameters = _number(row.get("parameters"))
    low, high = _PARAMETERS.get(published.size, (0, math.inf))
    if parameters is not None and not low <= parameters / 1e6 <= high:
        return f"a model of {parameters / 1e6:.0f}M parameters, published for BEiT-3 {published.size}"
    named = next((size for size in _PARAMETERS if f"_{size}_" in str(row.get("backbone", ""))), "")
    if named and published.size in _PARAMETERS and named != published.size:
        return f"backbone {row['backbone']}, published for {published.size}"
    resolution = _number(row.get("resolution"))
    if published.resolution and resolution is not None and int(resolution) != published.resolution:
        return f"images of {int(resolution)} px, published for {published.resolution} px"
    return ""


def _noise(published: PublishedRow, results: Sequence[Mapping[str, Any]]) -> tuple[tuple[float, float], str]:
    """Noise below and above the difference, and what it is."""
    if published.tolerance_kind in (ROUNDING, INFERENCE):
        return (0.0, 0.0), "same weights and data: half a printed digit"
    values = [float(row["value"]) for row in results]
    if len(values) > 1:
        from scipy import stats

        half = stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
        own, what = (half, half), f"Student's t over {len(values)} seeds"
    else:
        row = results[0]
        if _number(row.get("low")) is None:
            return (0.0, 0.0), "one run without an interval"
        own = (float(row["value"]) - float(row["low"]), float(row["high"]) - float(row["value"]))
        what = "one seed: bootstrap over test samples"
    if published.sd is None or not published.runs:
        return own, what
    spread = NORMAL * float(published.sd) / math.sqrt(published.runs)
    return tuple(math.hypot(side, spread) for side in own), f"{what}, and the published spread"


def _number(value: Any) -> float | None:
    if value is None or value == "" or type(value).__name__ == "NAType" or value != value:
        return None
    return float(value)
