from __future__ import annotations

import json

import pytest
import torch

from tests.benchmarks import windows


def test_it_runs_at_a_tiny_size(capsys: pytest.CaptureFixture) -> None:
    assert windows.main(["--size", "nano", "--image-size", "256", "--rounds", "1", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [(row["precision"], row["what"]) for row in report["rows"]] == [
        (precision, what) for precision in ("fp32", "bf16") for what in ("attention", "backbone")
    ]
    assert "GiB" in report["notes"][0]


def test_the_naive_form_is_another_computation_with_the_same_result() -> None:
    model = windows.build("nano", 256)
    image = torch.randn(1, 3, 256, 256)
    with torch.inference_mode():
        (ours,) = model.maps(image, [5])
        with windows.naive():
            (naive,) = model.maps(image, [5])
    torch.testing.assert_close(ours, naive, rtol=1e-3, atol=1e-3)
    assert not torch.equal(ours, naive)


def test_a_missed_target_is_told() -> None:
    rows = [{"precision": "fp32", "what": "attention", "× faster": 1.4}, {"what": "backbone", "× faster": 1.0}]
    assert windows.missed(rows, 7 * 2**30) == ["fp32 attention: 1.40 times, target 1.5", "peak 7.00 GiB, target 6"]
    assert windows.missed(rows[1:], 5 * 2**30) == []
