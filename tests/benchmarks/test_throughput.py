"""The benchmark of samples per second with image files runs, at a tiny size."""

from __future__ import annotations

import pytest

from tests.benchmarks import throughput
from tests.benchmarks.answers import answered

TINY = ("--recipe", "nano", "--image-size", "48", "--scale", "0.01", "--steps", "1", "--workers", "0")
CHANGES = ("--set", "micro_batch=2", "--set", "batch_size=2", "--set", "precision=fp32")


def test_throughput(capsys: pytest.CaptureFixture) -> None:
    status, report = answered(
        throughput.main, capsys, "--tasks", "imagenet", "coco_captioning", "ade20k", *TINY, *CHANGES
    )
    assert [row["task"] for row in report["rows"]] == ["imagenet", "coco_captioning", "ade20k"]
    for row in report["rows"]:
        assert row["loader"] > row["train"] > 0
        assert row["predict"] > 0
        assert 0 < row["waited %"] < 100
    assert status == 0
