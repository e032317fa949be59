from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.benchmarks import overfit


def test_it_runs_and_too_little_learning_is_told(
    truth: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overfit, "truth_folder", lambda: truth)
    assert overfit.main(["--images", "4", "--epochs", "3", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert [row["metric"] for row in report["rows"]] == list(overfit.SHOWN)
    assert report["missed"][0].startswith("box AP")
