"""Several tasks in one command, and the whole command in messages."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest

from backbones import UsageError
from harness import pipeline
from harness.cli import main
from harness.experiment import Experiment
from tests.conftest import FAST
from tests.harness.test_cli import call, told
from tests.support.rows import of_run


@pytest.fixture(autouse=True)
def program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["harness"])


@pytest.fixture
def outcomes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Exception]:
    """Errors of tasks by name, for tests to fill; every other task gives a row without any work."""
    errors: dict[str, Exception] = {}

    def run(experiment: Experiment, **_: object) -> list:
        if error := errors.get(experiment.adapter.name):
            raise error
        adapter = experiment.adapter
        return [of_run("a", task=adapter.name, metric=name) for name in (adapter.primary.name, "another")]

    monkeypatch.setattr(pipeline, "run", run)
    return errors


def listed(colours: Path, *extra: str) -> list[str]:
    return ["run", "imagenet", "ade20k", "nlvr2", "--backbone", "multiway_nano", "--data", str(colours), *extra]


def test_a_task_that_fails_does_not_end_the_others(outcomes: dict, colours: Path, capfd: pytest.CaptureFixture) -> None:
    outcomes["ade20k"] = UsageError("One batch is too large.", options=("--set", "batch_size=8"))
    assert main(listed(colours)) == 1
    out, err = capfd.readouterr()
    assert "imagenet" in out and "nlvr2" in out
    assert "top1" in out and "another" not in out  # which results.csv has
    whole = f"harness run ade20k --backbone multiway_nano --data {colours} --set batch_size=8"
    assert f"Not done: ade20k: One batch is too large. The whole command: {whole}" in out
    assert "harness: ade20k: One batch is too large." in err


def test_programs_get_rows_and_reasons(outcomes: dict, colours: Path, capsys: pytest.CaptureFixture) -> None:
    outcomes["imagenet"] = RuntimeError("a bug")
    assert main(listed(colours, "--json")) == 1
    answer = json.loads(capsys.readouterr().out)
    assert [row["task"] for row in answer["rows"]] == ["ade20k", "ade20k", "nlvr2", "nlvr2"]
    assert "Unexpected RuntimeError: a bug" in answer["refused"]["imagenet"]
    assert answer["error"] == "Not done: imagenet"
    outcomes.clear()
    assert main(listed(colours, "--json")) == 0
    tasks = [row["task"] for row in json.loads(capsys.readouterr().out)]
    assert list(dict.fromkeys(tasks)) == ["imagenet", "ade20k", "nlvr2"]


def test_a_wrong_call_starts_nothing(outcomes: dict, colours: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(listed(colours, "--set", "max_tokens=3")) == 2
    assert "Nothing was started" in told(capsys)


def test_pictures_are_drawn_of_the_tasks_that_have_them(outcomes: dict, colours: Path) -> None:
    assert main(listed(colours, "--show", "2")) == 0
    assert main(["run", "imagenet", "nlvr2", *listed(colours, "--show", "2")[4:]]) == 2


@pytest.mark.training
def test_the_whole_command_works_as_printed(colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    changes = (*FAST[:1], "batch_size=32", "micro_batch=32", "epochs=1", "warmup_epochs=0", "workers=0")
    out = tmp_path / "a folder"
    assert main(call(colours, out, changes=changes)) == 2
    text = told(capsys)
    assert "more than the 24 training samples" in text
    words = shlex.split(text.partition("The whole command: ")[2])
    assert words[0] == "harness"
    assert main(words[1:]) == 0  # in the folder that the refused run has begun
    assert (out / "results.csv").is_file()


@pytest.mark.training
def test_limits_fit_the_batch(colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    changes = (*FAST[:1], "epochs=1", "warmup_epochs=0", "workers=0")
    assert main(call(colours, tmp_path, "--limit", "7", "--json", changes=changes)) == 0
    out, _ = capsys.readouterr()
    assert json.loads(out)[0]["recipe_altered"].split() == ["image_size", "epochs", "steps", "batch_size"]
