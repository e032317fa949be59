from __future__ import annotations

import pytest

from tests.benchmarks import deformable
from tests.benchmarks.answers import answered


def test_deformable_attention(forked: None, capsys: pytest.CaptureFixture) -> None:
    small = ("--pixels", "64", "--heads", "2", "--dim", "4", "--rounds", "1")
    status, report = answered(deformable.main, capsys, *small)
    assert [(row["implementation"], row["pass"]) for row in report["rows"]] == [
        (name, what) for name in ("ours", "mmcv") for what in ("forward", "backward")
    ]
    assert all(row["seconds"] > 0 for row in report["rows"])
    assert [row["GiB for both"] is None for row in report["rows"]] == [False, True] * 2
    assert status == bool(report["missed"])


def test_deformable_attention_times_nothing_that_computes_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deformable, "memory", lambda *_: 0)
    monkeypatch.setitem(
        deformable.SIDES, "mmcv", lambda: lambda *inputs: 1.01 * deformable.deformable_attention(*inputs)
    )
    with pytest.raises(SystemExit, match="nothing to compare"):
        deformable.main(["--pixels", "64", "--heads", "2", "--dim", "4", "--rounds", "1"])


def test_deformable_attention_misses_what_is_slower() -> None:
    rows = [{"implementation": "ours", "pass": "forward", "ours is × faster": None}]
    rows += [{"implementation": "mmcv", "pass": name, "ours is × faster": x} for name, x in (("a", 1.0), ("b", 0.9))]
    assert deformable.missed(rows) == ["b: 0.900, target 1.0"]
