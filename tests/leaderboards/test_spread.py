"""Mean and standard deviation over seeds."""

from __future__ import annotations

import pytest

from leaderboards.spread import over_seeds, standard_deviation
from tests.support.rows import of_run


def test_each_metric_has_its_spread_over_seeds() -> None:
    rows = [of_run(f"run{seed}", seed=seed, value=value) for seed, value in ((0, 1.0), (1, 2.0), (2, 6.0))]
    rows += [of_run("run0", seed=0, metric="top5", value=9.0)]
    top1, top5 = over_seeds(rows)
    assert (top1.metric, top1.seeds, top1.values, top1.mean) == ("top1", (0, 1, 2), (1.0, 2.0, 6.0), 3.0)
    assert top1.sd == pytest.approx(7**0.5)  # (4 + 1 + 9) / 2, not / 3
    assert (top5.mean, top5.sd) == (9.0, None)


def test_a_seed_that_ran_twice_counts_once_and_one_without_a_value_not_at_all() -> None:
    rows = [of_run("a", seed=0, value=1.0), of_run("b", seed=0, value=3.0), of_run("c", seed=1, value=None)]
    (only,) = over_seeds(rows)
    assert (only.seeds, only.values, only.sd) == ((0,), (3.0,), None)


def test_equal_values_have_no_spread() -> None:
    assert standard_deviation([0.1, 0.1, 0.1]) == pytest.approx(0)
