from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.benchmarks import detection
from tests.benchmarks.answers import answered


def test_detection(capsys: pytest.CaptureFixture) -> None:
    _, report = answered(
        detection.main, capsys, "--images", "10", "--detections", "5", "--rounds", "1", "--draws", "20"
    )
    assert [row["kind"] for row in report["rows"]] == ["box", "mask"]
    for row in report["rows"]:
        assert row["ours is × faster"] == pytest.approx(row["pycocotools (s)"] / row["ours (s)"])
        assert row["intervals (s)"] > 0
        assert row["× one metric's"] > 0
        assert row["peak memory (MiB)"] > 0


def test_detection_times_nothing_that_computes_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def ours(data: object, kind: str) -> list:
        return [dataclasses.replace(one, statistic=lambda weights: np.ones(92)) for one in scored(data, kind)]

    scored = detection.ours
    monkeypatch.setattr(detection, "ours", ours)
    with pytest.raises(SystemExit, match="nothing to compare"):
        detection.main(["--images", "10", "--detections", "5", "--rounds", "1", "--draws", "20"])


def test_detection_tells_what_is_missed() -> None:
    row = {"kind": "mask", "ours is × faster": 4.96, "intervals (s)": 40.5, "× one metric's": 1.31}
    assert detection.missed(row) == [
        "mask: 5.0 times as fast as pycocotools, target 5",
        "mask: intervals took 40.5 s, target 40 s",
        "mask: intervals took 1.31 times those of one metric, target 1.3",
    ]
    assert detection.missed(row | {"ours is × faster": 5.0, "intervals (s)": 40.0, "× one metric's": 1.3}) == []
