"""`harness predict`: its score, what it says of the weights, and what it says to do next."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest
import torch

from harness.cli import main
from harness.experiment import plan
from leaderboards.rows import read

CHANGES = ("image_size=32", "micro_batch=4", "workers=0", "precision=fp32")


@pytest.fixture(scope="module")
def untrained(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of backbone and head as they start, under the name of a released pretrained file."""
    experiment = plan("imagenet", backbone="multiway_nano", data=colours, changes=CHANGES)
    path = tmp_path_factory.mktemp("weights") / "beit3_base_patch16_224.pth"
    torch.save({"model": experiment.build_model().state_dict()}, path)
    return path


def command(colours: Path, weights: Path, out: Path, *extra: str) -> list[str]:
    fixed = ["predict", "imagenet", "--backbone", "multiway_nano", "--data", str(colours), "--weights", str(weights)]
    return [*fixed, "--out", str(out), *(part for change in CHANGES for part in ("--set", change)), *extra]


def test_the_next_command_scores_the_predictions(
    colours: Path, untrained: Path, tmp_path: Path, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["harness"])
    assert main(command(colours, untrained, tmp_path / "a folder", "--limit", "9")) == 0
    out, err = capfd.readouterr()
    assert "beit3_base_patch16_224.pth is a pretrained file, and nothing in it was fine-tuned" in err
    assert not (tmp_path / "a folder" / "results.csv").exists()
    words = shlex.split(out.partition("Next: ")[2])
    assert words[:3] == ["harness", "score", "imagenet"]
    assert main([*words[1:], "--json"]) == 0
    (top1, top5) = json.loads(capfd.readouterr().out)
    assert (top1["n"], top5["value"]) == (9, 100.0)  # of three classes


def test_the_score_is_that_of_the_score_command(
    colours: Path, untrained: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    assert main(command(colours, untrained, tmp_path, "--score", "--json")) == 0
    answer = json.loads(capfd.readouterr().out)
    assert [row.metric for row in read(tmp_path / "results.csv")] == ["top1", "top5"]
    assert main(["score", "imagenet", answer["predictions"], "--data", str(colours), "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == answer["rows"]
    # The predictions are there already, and the table comes without a hint to score them.
    assert main(command(colours, untrained, tmp_path, "--score")) == 0
    shown = capfd.readouterr().out
    assert "top1" in shown and "Next:" not in shown


def test_predictions_for_a_server_are_not_scored(
    untrained: Path, tmp_path: Path, spm: Path, capfd: pytest.CaptureFixture
) -> None:
    call = ["predict", "vqav2", "--backbone", "multiway_nano", "--data", str(tmp_path), "--weights", str(untrained)]
    assert main([*call, "--split", "test-dev", "--score"]) == 2
    assert "truth of vqav2's split test-dev is not public" in capfd.readouterr().err


def test_a_run_says_what_it_begins_with(colours: Path) -> None:
    """The bundled weights of the stage that the recipe begins with, random values, or a file of the user's."""

    def begins(**options: str | None) -> tuple[str | None, list[str]]:
        run = plan("imagenet", backbone="multiway_nano", data=colours, **options)
        return run.weights and run.weights.name, [text for text in run.notices if "weights" in text.lower()]

    bundled = "Begins with the bundled {} (--weights none: with random values)"
    for recipe, name in (
        ("nano", "multiway_nano.safetensors"),
        ("nano_names", "multiway_nano_contrastive.safetensors"),
    ):
        assert begins(recipe=recipe) == (name, [bundled.format(name)])
    assert begins(weights="none") == (None, ["Without weights: multiway_nano is fine-tuned from random values"])
    assert begins(weights=__file__) == (Path(__file__).name, [])
    assert plan("imagenet", backbone="beit3_base_patch16_224", data=colours).weights is None
