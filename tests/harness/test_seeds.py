"""`harness run --seeds`: a run for each seed, and their mean and standard deviation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backbones.errors import UsageError
from harness import pipeline
from harness.cli import main
from harness.seeds import parsed
from leaderboards.rows import read
from tests.harness.test_cli import call, told

ONE_STEP = ("image_size=16", "batch_size=8", "micro_batch=8", "steps=1", "workers=0")


@pytest.mark.parametrize("text", ["", "0,", "0,a", "-1", "0;1", "1.5"])
def test_seeds_are_whole_numbers(text: str) -> None:
    with pytest.raises(UsageError, match="whole numbers from 0"):
        parsed(text)


def test_a_seed_may_not_be_given_twice() -> None:
    assert parsed("3, 1,2") == (3, 1, 2)
    with pytest.raises(UsageError, match="has 1 twice"):
        parsed("1,2,1")


def test_seed_and_seeds_exclude_each_other(colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(call(colours, tmp_path, "--seed", "1", "--seeds", "0,1")) == 2
    assert "Give one" in told(capsys)


@pytest.mark.training
@pytest.mark.usefixtures("few_draws")
def test_there_is_a_run_for_each_seed_and_their_spread(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(call(colours, tmp_path, "--seeds", "0,3", "--json", changes=ONE_STEP)) == 0
    answer = json.loads(capsys.readouterr().out)
    rows = [row for row in answer["rows"] if row["metric"] == "top1"]
    assert [row["seed"] for row in rows] == [0, 3]
    (spread,) = (spread for spread in answer["seeds"] if spread["metric"] == "top1")
    values = [row["value"] for row in rows]
    assert spread["values"] == values
    assert spread["mean"] == pytest.approx(sum(values) / 2)
    assert spread["sd"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert {row.seed for row in read(tmp_path / "results.csv")} == {0, 3}
    assert {path.name for path in (tmp_path / "imagenet").iterdir()} == {"multiway_nano-seed0", "multiway_nano-seed3"}


@pytest.mark.training
@pytest.mark.usefixtures("few_draws")
def test_a_seed_that_fails_does_not_end_the_others(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pipeline.run

    def run(experiment: object, **options: object) -> list:
        if experiment.seed == 0:
            raise RuntimeError("no luck")
        return whole(experiment, **options)

    monkeypatch.setattr(pipeline, "run", run)
    assert main(call(colours, tmp_path, "--seeds", "0,1", "--json", changes=ONE_STEP)) == 1
    answer = json.loads(capsys.readouterr().out)
    assert "no luck" in answer["refused"]["imagenet with seed 0"]
    assert [spread["seeds"] for spread in answer["seeds"]] == [[1], [1]]


def test_seeds_change_nothing_without_training(colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    weights = tmp_path / "weights.safetensors"
    weights.touch()
    options = ("--weights", str(weights), "--seeds", "0,1")
    assert main(call(colours, tmp_path, *options, changes=("image_size=16", "epochs=0"))) == 2
    assert "every seed gives imagenet the same number" in told(capsys)
