"""The simulation of intervals runs at a tiny size, and sees intervals that are wrong."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tasks import bootstrap
from tests.benchmarks import coverage
from tests.benchmarks.answers import answered


@pytest.mark.slow
def test_every_metric_is_simulated(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coverage, "POPULATION", 2)
    monkeypatch.setattr(coverage, "CASES", [dataclasses.replace(case, images=25) for case in coverage.CASES])
    _, report = answered(coverage.main, capsys, "--sets", "2", "--draws", "20")
    assert [row["metric"] for row in report["rows"]] == ["accuracy", "mIoU", "R@1", "CIDEr", "AP"]
    for row in report["rows"]:
        assert row["true value"] > 10
        assert row["mean width"] > 0
        assert {row["covered %"], row["false differences %"]} <= {0, 50, 100}


def narrowed(estimates: list[bootstrap.Estimate]) -> list[bootstrap.Estimate]:
    """Intervals of a quarter of the width."""
    return [
        one._replace(low=one.value - (one.value - one.low) / 4, high=one.value + (one.high - one.value) / 4)
        for one in estimates
    ]


def test_intervals_that_are_too_narrow_miss_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    case = dataclasses.replace(coverage.CASES[0], images=60)
    right = coverage.measure(sets=60, draws=60, cases=[case])
    assert 80 < right.rows[0]["covered %"] <= 100
    monkeypatch.setattr(coverage, "estimates", lambda *given: narrowed(bootstrap.estimates(*given)))
    wrong = coverage.measure(sets=60, draws=60, cases=[case])
    assert wrong.rows[0]["covered %"] < 70
    assert any("accuracy" in line and "covered" in line for line in wrong.missed)


def test_models_that_differ_are_told_apart() -> None:
    """The rate of false differences is that of a test that sees true ones."""

    def apart(rng: np.random.Generator, images: int) -> coverage.Pair:
        return tuple(bootstrap.mean("top1", rng.random(images) < chance) for chance in (0.8, 0.5))

    row = coverage.simulate(coverage.Case("accuracy", apart, 100), sets=20, draws=60)
    assert row["false differences %"] > 90


def test_copies_do_not_narrow_an_interval() -> None:
    assert coverage.widths_of_copies(copies=2, draws=50) == pytest.approx(
        {"samples": 1, "runs": 1, "runs, over seeds": 1}
    )
    (line,) = coverage.missed([], {"samples": 0.71, "runs": 1})
    assert line == "with copies of samples intervals are 0.71 times as wide, target 1"
