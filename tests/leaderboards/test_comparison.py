"""Differences from replicates: what they must be exactly, and how often they are wrong under no difference."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from backbones.errors import InputError
from leaderboards.comparison import compare, holm, p_value, tie_groups
from leaderboards.replicates import Replicates
from tasks import bootstrap


def of(values: np.ndarray, run: str = "a", *, seed: int = 7, **changes: object) -> Replicates:
    """The mean of some values as a metric with its replicates."""
    one = bootstrap.mean("top1", values)
    (drawn,) = bootstrap.replicates([one], seed=seed)
    fields = {
        "task": "imagenet", "split": "val", "metric": "top1", "metric_version": 1, "unit": "percent",
        "value": one.value, "data_sha256": "d", "draws_sha256": drawn.draws_sha256, "predictions_sha256": run,
        "run_id": run, "replicates": drawn.values,
    }  # fmt: skip
    return Replicates(**{**fields, **changes})


RNG = np.random.default_rng(0)
HITS = (RNG.random(400) < 0.7).astype(float)
OTHER = np.where(RNG.random(400) < 0.1, 1 - HITS, HITS)  # a tenth of the answers changed


def test_a_copy_of_a_run_differs_by_exactly_nothing() -> None:
    found = compare({"0": [of(HITS)]}, {"0": [of(HITS)]}, collapsed=3.0)
    assert (found.value, found.low, found.high, found.p, found.equivalent) == (0, 0, 0, 1, True)


def test_the_interval_is_paired() -> None:
    """Unpaired draws would make it as wide as that of two independent proportions."""
    found = compare({"0": [of(HITS)]}, {"0": [of(OTHER, "b")]})
    assert found.value == pytest.approx(100 * (HITS - OTHER).mean())
    paired = 1.96 * 100 * (HITS - OTHER).std() / 20
    assert (found.high - found.low) / 2 == pytest.approx(paired, rel=0.1)
    unpaired = 1.96 * 100 * np.sqrt(HITS.var() + OTHER.var()) / 20
    assert (found.high - found.low) / 2 < 0.6 * unpaired


def test_runs_of_different_draws_are_refused() -> None:
    with pytest.raises(InputError, match="draws_sha256"):
        compare({"0": [of(HITS)]}, {"0": [of(OTHER, "b", seed=8)]})
    with pytest.raises(InputError, match="metric_version"):
        compare({"0": [of(HITS)]}, {"0": [of(OTHER, "b", metric_version=2)]})


def test_an_equivalence_needs_the_whole_interval_inside_the_margin() -> None:
    sides = {"0": [of(HITS)]}, {"0": [of(OTHER, "b")]}
    found = compare(*sides)
    edge = max(-found.low, found.high)
    assert compare(*sides, margin=edge + 0.01).equivalent
    assert not compare(*sides, margin=edge - 0.01).equivalent


def test_two_perfect_runs_have_the_width_of_wilsons_interval() -> None:
    ones = np.ones(50)
    found = compare({"0": [of(ones)]}, {"0": [of(ones, "b")]}, collapsed=7.1)
    assert (found.low, found.high, found.equivalent) == (-7.1, 7.1, False)


def test_a_repeated_seed_narrows_nothing() -> None:
    runs = {str(seed): np.where(RNG.random(400) < 0.1, 1 - HITS, HITS) for seed in range(6)}
    left = {seed: [of(values, seed)] for seed, values in list(runs.items())[:3]}
    right = {seed: [of(values, f"r{seed}")] for seed, values in zip("012", list(runs.values())[3:], strict=True)}
    once = compare(left, right)
    twice = compare({seed: 2 * own for seed, own in left.items()}, {seed: 2 * own for seed, own in right.items()})
    assert (once.low, once.high, once.p) == pytest.approx((twice.low, twice.high, twice.p))
    assert once.seeds.points == pytest.approx(twice.seeds.points)
    assert (once.seeds.low, once.seeds.high) == pytest.approx((twice.seeds.low, twice.seeds.high))
    assert compare({"0": left["0"]}, right).seeds is None  # one seed has no spread


def test_the_interval_over_seeds_is_students() -> None:
    left = {str(seed): [of(HITS, f"l{seed}", value=value)] for seed, value in enumerate((70.0, 71.0, 72.5))}
    right = {str(seed): [of(HITS, f"r{seed}", value=value)] for seed, value in enumerate((69.0, 70.5, 70.0))}
    found = compare(left, right).seeds
    points = np.array([1.0, 0.5, 2.5])
    assert found.points == pytest.approx(points)
    expected = stats.ttest_1samp(points, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    other = {str(seed + 9): own for seed, own in enumerate(right.values())}  # other seeds: not paired
    welch = stats.ttest_ind([70, 71, 72.5], [69, 70.5, 70], equal_var=False).confidence_interval(0.95)
    unpaired = compare(left, other).seeds
    assert unpaired.points == () and (unpaired.low, unpaired.high) == pytest.approx((welch.low, welch.high))


def test_p_values() -> None:
    assert p_value(np.zeros(999)) == 1
    assert p_value(np.arange(1, 1000.0)) == pytest.approx(2 / 1000)
    assert p_value(np.linspace(-1, 1, 999)) == 1
    assert p_value(np.array([np.nan, *np.arange(1, 1000.0)])) == pytest.approx(2 / 1000)


def test_the_false_positive_rate_without_a_difference_is_that_of_the_level() -> None:
    rng = np.random.default_rng(1)
    draws = rng.multinomial(200, np.full(200, 1 / 200), size=400) / 200
    wrong = 0
    for _ in range(400):
        one, other = rng.random(200) < 0.6, rng.random(200) < 0.6
        wrong += p_value(draws @ (one.astype(float) - other)) < 0.05
    assert 0.03 <= wrong / 400 <= 0.08


def test_holm_against_a_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_tie_groups_follow_from_the_ranking() -> None:
    far = {(0, 1): 0.5, (0, 2): 0.01, (0, 3): 0.01, (1, 2): 0.3, (1, 3): 0.01, (2, 3): 0.9}
    assert tie_groups([90, 89, 88, 87], far) == [1, 1, 2, 2]
    assert tie_groups([87, 90, 89], {(0, 1): 0.01, (0, 2): 0.2, (1, 2): 0.2}) == [2, 1, 1]
    assert tie_groups([1, 2], {(0, 1): 1.0}) == [1, 1]
