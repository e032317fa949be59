from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable

import numpy as np
import pytest

from tasks.bootstrap import Measurement, estimates, mean, replicates, values, weighted_sum
from tests.conftest import REPOSITORY


def test_mean_is_a_percentage_over_samples() -> None:
    measured = mean("top1", [True, False, True, True])
    assert (measured.value, measured.samples, measured.units) == (75.0, 4, 4)


def test_interval_of_a_mean_agrees_with_the_normal_approximation() -> None:
    hits = np.random.default_rng(0).random(2000) < 0.8
    measured = mean("top1", hits)
    low, high = measured.interval(seed=0)
    p = hits.mean()
    half = 100 * 1.96 * (p * (1 - p) / 2000) ** 0.5
    assert low == pytest.approx(100 * p - half, abs=0.15)
    assert high == pytest.approx(100 * p + half, abs=0.15)


def test_interval_depends_on_the_seed_alone() -> None:
    measured = mean("top1", np.arange(50) % 3 == 0)
    assert measured.interval(seed=1) == measured.interval(seed=1)
    assert measured.interval(seed=1) != measured.interval(seed=2)


def test_samples_of_one_unit_move_together() -> None:
    # 40 images with five equal answers each: the interval is that of 40 samples, not of 200.
    answers = np.repeat(np.arange(40) % 2, 5)
    images = [f"image{index // 5}" for index in range(200)]
    alone, grouped = mean("accuracy", answers), mean("accuracy", answers, units=images)
    assert (grouped.value, grouped.samples, grouped.units) == (50.0, 200, 40)
    widths = [np.diff(measured.interval(seed=0))[0] for measured in (alone, grouped)]
    assert widths[1] / widths[0] == pytest.approx(5**0.5, rel=0.15)


def test_any_function_of_unit_weights_has_an_interval() -> None:
    # Mean over classes of a ratio of sums, as mIoU: not a mean over images.
    intersection = np.array([[5.0, 0.0], [3.0, 2.0], [0.0, 4.0]])
    union = np.array([[10.0, 0.0], [3.0, 4.0], [1.0, 4.0]])

    def miou(weights: np.ndarray) -> float:
        present = weights @ union
        return float(100 * np.mean((weights @ intersection)[present > 0] / present[present > 0]))

    measured = Measurement("mIoU", 3, 3, miou)
    assert measured.value == pytest.approx(100 * (8 / 14 + 6 / 8) / 2)
    low, high = measured.interval(seed=0)
    assert low < measured.value < high


def ratios(weights: np.ndarray) -> np.ndarray:
    """Two metrics that share a computation, over three units."""
    return weights @ np.array([[1.0, 4.0], [2.0, 1.0], [6.0, 0.0]]) / weights.sum()


def drawn_alone(statistic: Callable[[np.ndarray], float], units: int, seed: int) -> tuple[float, float]:
    """Percentile interval of one scalar metric over 1,000 draws of its own."""
    rng = np.random.default_rng(seed)
    draws = [
        statistic(np.bincount(rng.integers(units, size=units), minlength=units).astype(float)) for _ in range(1000)
    ]
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return low, high


def test_metrics_that_share_draws_have_the_intervals_of_metrics_alone() -> None:
    shared = [Measurement(name, 3, 3, ratios, index=index) for index, name in enumerate("ab")]
    rows = np.random.default_rng(0).random(40)
    other = Measurement("c", 40, 40, lambda weights: float(weights @ rows))
    asked = [shared[1], other, shared[0]]
    found = estimates(asked, replicates(asked, seed=7))
    assert [one.value for one in found] == values(asked)
    alone = [
        drawn_alone(lambda weights: ratios(weights)[1], 3, 7),
        drawn_alone(other.statistic, 40, 7),
        drawn_alone(lambda weights: ratios(weights)[0], 3, 7),
    ]
    assert [(one.low, one.high) for one in found] == alone


def test_a_shared_statistic_is_computed_once_per_draw() -> None:
    calls = []

    def counted(weights: np.ndarray) -> np.ndarray:
        calls.append(weights)
        return ratios(weights)

    replicates([Measurement(name, 3, 3, counted, index=index) for index, name in enumerate("ab")], seed=0, resamples=20)
    assert len(calls) == 20


def test_a_metric_that_a_draw_has_no_units_for_is_left_out_of_its_interval() -> None:
    def statistic(weights: np.ndarray) -> np.ndarray:
        return np.array([np.nan if weights[0] == 0 else weights[0], np.nan])

    # Nobody asks for the second metric, which is NaN in every draw.
    assert Measurement("a", 3, 3, statistic).interval(seed=0) == (1, 3)


def test_no_statistic_leaves_its_sums_to_threads() -> None:
    """BLAS splits `weights @ rows` among threads that wait for each other; `weighted_sum` has none."""
    rows = np.random.default_rng(0).random((30, 2, 3))
    weights = np.arange(30.0)
    assert weighted_sum(weights, rows) == pytest.approx(np.tensordot(weights, rows, 1))
    assert weighted_sum(weights, rows[:, 0, 0]) == pytest.approx(weights @ rows[:, 0, 0])
    for path in (REPOSITORY / "tasks").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
                assert "weights" not in (ast.unparse(node.left), ast.unparse(node.right)), f"{path}:{node.lineno}"


def test_proportions_of_all_or_nothing_have_wilsons_interval() -> None:
    """z² = 1.959964² = 3.841459, and 3.841459 / (10 + 3.841459) = 0.277533."""
    none, whole = (mean("top1", [hit] * 10, proportion=True) for hit in (False, True))
    assert none.interval(seed=0) == (0, pytest.approx(27.7533, abs=1e-4))
    assert whole.interval(seed=0) == (pytest.approx(72.2467, abs=1e-4), 100)
    (found,) = estimates([whole], replicates([whole], seed=0))
    assert found.draws is None  # no draw is behind it


def test_units_are_the_trials_of_wilsons_interval() -> None:
    # 3.841459 / (2 + 3.841459) = 0.657620: two images, however many questions there are on them.
    grouped = mean("accuracy", [0.0] * 50, units=[index % 2 for index in range(50)], proportion=True)
    assert grouped.interval(seed=0) == (0, pytest.approx(65.7620, abs=1e-4))


def test_other_values_have_percentile_intervals() -> None:
    proportion, other = mean("top1", [True] * 9 + [False], proportion=True), mean("CIDEr", [0.0] * 10)
    assert proportion.interval(seed=0) == mean("top1", [True] * 9 + [False]).interval(seed=0)
    assert other.interval(seed=0) == (0, 0)  # CIDEr has no upper end, so Wilson has nothing to say of it
    found = estimates([proportion, other], replicates([proportion, other], seed=0))
    assert [one.draws for one in found] == [1000, 1000]


def test_replicates_name_the_draws_that_they_are_of() -> None:
    measured = [mean("a", np.arange(50) % 2), mean("b", np.arange(50) % 3 == 0), mean("c", np.arange(40) % 2)]
    found, again, other = (replicates(measured, seed=seed, resamples=20) for seed in (1, 1, 2))
    assert [one.draws_sha256 for one in found] == [one.draws_sha256 for one in again]
    assert found[0].draws_sha256 == found[1].draws_sha256
    assert len({one.draws_sha256 for one in (found[0], found[2], other[0])}) == 3
    rng = np.random.default_rng(1)
    draws = [np.bincount(rng.integers(40, size=40), minlength=40) for _ in range(20)]
    assert found[2].draws_sha256 == hashlib.sha256(np.array(draws, "<u4")).hexdigest()
    assert found[2].values == pytest.approx([100 * (draw[1::2].sum()) / 40 for draw in draws])
