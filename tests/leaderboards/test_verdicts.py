"""Verdicts on constructed cases of each kind."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from leaderboards import published, verdicts
from leaderboards.comparable import Benchmarks
from leaderboards.published import PublishedRow
from leaderboards.verdicts import CANNOT_TELL, NOT_COMPARABLE, OFF, SAME, WITHIN, judge

FACTS = Benchmarks(datasets={"imagenet": "ImageNet"}, versions={("imagenet", "top1"): 1})


def number(value: str = "85.4", **changes: Any) -> PublishedRow:
    fields = {
        "source": "s", "model": "BEiT-3", "size": "base", "weights": "beit3_base_patch16_224_in1k", "released": True,
        "resolution": 224, "task": "imagenet", "split": "val", "metric": "top1", "unit": "percent",
        "tolerance": Decimal("0.2"), "tolerance_kind": published.INFERENCE, "reason": "r",
    }  # fmt: skip
    return PublishedRow(value=Decimal(value), **{**fields, **changes})


def result(value: float | None, **changes: Any) -> dict[str, Any]:
    row = {
        "task": "imagenet", "dataset": "ImageNet", "split": "val", "metric": "top1", "unit": "percent", "value": value,
        "low": None if value is None else value - 0.3, "high": None if value is None else value + 0.3, "n": 50_000,
        "metric_version": 1, "backbone": "beit3_base_patch16_224", "weights": "beit3_base_patch16_224_in1k.pth",
        "released": "beit3_base_patch16_224_in1k", "parameters": 87_000_000, "resolution": 224, "seed": None,
        "started": "2026",
    }  # fmt: skip
    return {**row, **changes}


TRAINED = {"tolerance_kind": published.SPREAD_ASSUMED, "tolerance": Decimal("0.5")}


@pytest.mark.parametrize(
    ("row", "own", "verdict"),
    [
        (number(), [85.449], SAME),
        (number(), [85.351], SAME),
        (number(), [85.5], WITHIN),
        (number(), [85.25], WITHIN),  # -0.15, and half a digit: exactly the tolerance
        (number(), [85.58], CANNOT_TELL),  # 0.18: what the printed digit hides decides
        (number(), [85.7], OFF),
        (number(), [85.1], OFF),
        (number(**TRAINED), [85.5], WITHIN),  # 0.1 and 0.3 and half a digit
        (number(**TRAINED), [85.7], CANNOT_TELL),
        (number(**TRAINED), [86.5], OFF),
        (number(**TRAINED), [85.5, 85.6, 85.4], WITHIN),
        (number(**TRAINED), [84.5, 86.6, 85.4], CANNOT_TELL),  # the seeds differ too much to tell
        (number(**TRAINED), [86.5, 86.6, 86.4], OFF),
        (number("85.45", **TRAINED), [85.451], SAME),
    ],
)
def test_a_verdict_is_that_of_the_equivalence_test(row: PublishedRow, own: list[float], verdict: str) -> None:
    found = judge(row, [result(value, seed=seed) for seed, value in enumerate(own)], FACTS)
    assert found.verdict == verdict
    assert found.low < found.difference < found.high


def test_an_interval_wider_than_the_tolerance_is_never_within_noise() -> None:
    for value in (85.41, 85.5, 85.3, 85.46):
        row = number("85.45", tolerance=Decimal("0.2"), tolerance_kind=published.SPREAD_ASSUMED)
        assert judge(row, [result(value)], FACTS).verdict == CANNOT_TELL


def test_a_measured_spread_widens_the_interval() -> None:
    plain = judge(number(**TRAINED), [result(85.6)], FACTS)
    spread = {"tolerance_kind": published.SPREAD_MEASURED, "sd": Decimal("0.6"), "runs": 4}
    measured = judge(number(**{**TRAINED, **spread}), [result(85.6)], FACTS)
    assert measured.high - measured.difference == pytest.approx((0.3**2 + (1.96 * 0.3) ** 2) ** 0.5 + 0.05)
    assert plain.high - plain.difference == pytest.approx(0.35)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dataset": "unnamed, in the layout of ImageNet"}, "other data"),
        ({"subset": "100 of 50000"}, "a part of the split: 100 of 50000"),
        ({"metric_version": 2}, "metric version 2, today 1"),
        ({"recipe_altered": "lr"}, "altered recipe: lr"),
        ({"predict_altered": "image_size"}, "altered recipe: image_size"),
        ({"leak": "seen"}, "leak: seen"),
        ({"split": "train"}, "split train, published for val"),
        ({"resolution": 384}, "images of 384 px, published for 224 px"),
        ({"released": "beit3_base_itc_patch16_224"}, "weights beit3_base_itc_patch16_224, published for"),
        ({"parameters": 304_000_000 + 600_000_000}, "a model of 904M parameters, published for BEiT-3 base"),
        ({"backbone": "beit3_large_patch16_224"}, "backbone beit3_large_patch16_224, published for base"),
        ({"value": None, "note": "no real.json"}, "no real.json"),
    ],
)
def test_what_cannot_be_compared_is_not_judged(changes: dict[str, Any], reason: str) -> None:
    found = judge(number(), [result(**{"value": 85.4, **changes})], FACTS)
    assert found.verdict == NOT_COMPARABLE and reason in found.reason


def test_the_giants_number_is_not_held_against_a_base_model() -> None:
    giant = number("89.6", size="giant", weights="", resolution=None)
    own = result(85.4, released="", weights="mine.pth", backbone="mine")
    assert "87M parameters, published for BEiT-3 giant" in judge(giant, [own], FACTS).reason


def test_multi_scale_numbers_are_barred() -> None:
    assert "one scale" in judge(number(protocol="multi-scale"), [result(85.4)], FACTS).reason
    assert set(verdicts.VERDICTS) == {SAME, WITHIN, OFF, CANNOT_TELL, NOT_COMPARABLE, verdicts.NOT_REPRODUCIBLE}
