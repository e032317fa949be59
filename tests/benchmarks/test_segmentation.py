from __future__ import annotations

import numpy as np
import pytest

from tests.benchmarks import segmentation
from tests.benchmarks.answers import answered


def test_segmentation(capsys: pytest.CaptureFixture) -> None:
    small = ("--images", "6", "--size", "40", "70", "--rounds", "1", "--draws", "10")
    status, report = answered(segmentation.main, capsys, *small)
    assert [row["implementation"] for row in report["rows"]] == ["ours", "mmseg IoUMetric"]
    assert all(row["seconds"] > 0 for row in report["rows"])
    assert report["rows"][0]["ours is × faster"] is None
    assert report["rows"][1]["ours is × faster"] > 0
    assert status == bool(report["missed"])


def test_segmentation_times_nothing_that_computes_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"images": 3, "size": (40, 70), "rounds": 1, "draws": 10}
    other = segmentation.ours
    with monkeypatch.context() as changed:
        changed.setattr(segmentation, "ours", lambda *args: other(*args) + np.eye(3, 150, dtype=np.int64))
        with pytest.raises(SystemExit, match="areas of an image differ"):
            segmentation.compare(**small)
    measured = segmentation.measure
    monkeypatch.setattr(segmentation, "measure", lambda counts, names: measured(counts[:2], names))
    with pytest.raises(SystemExit, match=r"metrics differ by \d"):
        segmentation.compare(**small)


def test_segmentation_misses_what_is_slow_or_large() -> None:
    assert segmentation.missed(2.0, segmentation.Scored(30.0, 32.0)) == []
    assert segmentation.missed(1.99, segmentation.Scored(30.1, 32.1)) == [
        "1.99 times as fast, target 2.0",
        "intervals took 30.1 s, target 30.0",
        "32.1 MiB, target 32.0",
    ]
