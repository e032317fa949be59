from __future__ import annotations

import numpy as np
import pytest

from tasks.statistics import Measurement, mean


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
