from __future__ import annotations

import json
from pathlib import Path

import pytest

from backbones import weights as weight_files
from tasks import toy
from tests.benchmarks import gains


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("toy")
    toy.write(root, tasks=("flickr30k", "imagenet"), scale=0.01, image_size=32)
    return root


def report(data: Path, out: Path, start: Path, capsys: pytest.CaptureFixture, *names: str) -> dict:
    options = ["--data", str(data), "--out", str(out), "--seeds", "1", "--json"]
    changes = ["--set", "steps=1", "--set", "batch_size=4", "--set", "micro_batch=4", "--set", "workers=0"]
    status = gains.main([*names, "--weights", str(start), *options, *changes])
    found = json.loads(capsys.readouterr().out)
    assert status == bool(found["missed"])
    return found


def test_weights_that_are_the_random_ones_gain_nothing(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    start = gains.random_dual_encoder(tmp_path / "start.safetensors", seed=0)
    found = report(data, tmp_path / "runs", start, capsys, "flickr30k_zero_shot")
    (row,) = found["rows"]
    assert (row["random"], row["gain"], row["low"], row["high"]) == (row["pretrained"], 0, 0, 0)
    assert found["missed"] == ["flickr30k_zero_shot: the interval of the gain begins at 0.00"]


def test_each_start_is_fine_tuned_under_the_same_budget(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    start = gains.random_dual_encoder(tmp_path / "start.safetensors", seed=3)
    (row,) = report(data, tmp_path / "runs", start, capsys, "imagenet")["rows"]
    assert row["gain"] == pytest.approx(row["pretrained"] - row["random"])
    for name in ("random", "pretrained"):
        folder = tmp_path / "runs" / name / "imagenet" / "multiway_nano-seed0"
        identity = json.loads((folder / "run.json").read_text())["identity"]
        assert identity["weights"] == (weight_files.sha256(start) if name == "pretrained" else "")
        assert (identity["recipe steps"], identity["seed"]) == (1, 0)
