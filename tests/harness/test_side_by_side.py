"""Runs in processes side by side: `harness run --jobs`."""

from __future__ import annotations

import argparse
import json
import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from harness import side_by_side, slots
from harness.cli import main
from harness.commands import run
from harness.hardware import Hardware
from harness.side_by_side import Call
from harness.slots import Slot
from tests.harness.test_cli import call, told
from tests.harness.test_seeds import ONE_STEP

WAIT = 60.0  # seconds
CORE = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
PLACES = [Slot(None, (CORE,)), Slot(None, (CORE,))]


def meet(own: Path, other: Path) -> list:
    """Wait for a run that has to be there at the same time."""
    own.touch()
    deadline = time.monotonic() + WAIT
    while not other.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{other} is not there")
        time.sleep(0.05)
    return [own.name]


def refuse() -> list:
    raise ValueError("no")


def die() -> list:
    print("so far", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
    return []


def text(error: Exception) -> str:
    return f"refused: {error}"


@pytest.mark.spawn
def test_runs_meet_and_one_that_fails_or_dies_ends_no_other(tmp_path: Path) -> None:
    made = {
        "a": partial(meet, tmp_path / "a", tmp_path / "b"),
        "b": partial(meet, tmp_path / "b", tmp_path / "a"),
        "refused": refuse,
        "dead": die,
    }
    calls = [Call(name, tmp_path / "logs" / name, make, text) for name, make in made.items()]
    answers = {each.name: answer for each, answer in side_by_side.run(calls, PLACES)}
    assert (answers["a"], answers["b"], answers["refused"]) == (["a"], ["b"], "refused: no")
    assert "SIGKILL" in answers["dead"]
    assert "ValueError" in (tmp_path / "logs" / "refused").read_text()
    assert "so far" in (tmp_path / "logs" / "dead").read_text()


@pytest.mark.spawn
def test_runs_that_go_on_are_ended_with_their_caller(tmp_path: Path) -> None:
    """The one waits for a run that never comes."""
    made = {"quick": refuse, "waits": partial(meet, tmp_path / "here", tmp_path / "never")}
    calls = [Call(name, tmp_path / name, make, text) for name, make in made.items()]
    ended = side_by_side.run(calls, PLACES)
    assert next(ended)[0].name == "quick"
    began = time.monotonic()
    ended.close()
    assert time.monotonic() - began < 5


@pytest.mark.spawn
@pytest.mark.training
@pytest.mark.usefixtures("few_draws")
def test_seeds_side_by_side_give_the_rows_of_one_after_the_other(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.slots.slots", lambda machine, jobs: PLACES[:jobs])
    found = []
    for jobs in ("1", "2"):
        out = tmp_path / jobs
        assert main(call(colours, out, "--seeds", "1,0", "--jobs", jobs, "--json", changes=ONE_STEP)) == 0
        rows = json.loads(capsys.readouterr().out)["rows"]
        found.append([(row["seed"], row["metric"], row["value"]) for row in rows])
    assert found[0] == found[1] and len(found[0]) == 2 * len({metric for _, metric, _ in found[0]})
    assert {path.name for path in (tmp_path / "2" / "logs").iterdir()} == {
        "imagenet-multiway_nano-seed0.log", "imagenet-multiway_nano-seed1.log",
    }  # fmt: skip


def test_more_runs_at_a_time_than_cores_are_refused(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(call(colours, tmp_path, "--jobs", "1000")) == 2
    assert "--jobs is a number from 1 to" in told(capsys)


def test_auto_is_a_run_for_each_gpu_or_core() -> None:
    arguments = argparse.ArgumentParser()
    run.add_arguments(arguments)
    given = ["imagenet", "--backbone", "multiway_nano", "--data", "x", "--jobs"]
    assert [arguments.parse_args([*given, jobs]).jobs for jobs in ("auto", "2")] == [None, 2]
    assert slots.most_jobs(Hardware(kind="cuda", bf16=True, gpus=("0", "1", "2"))) == 3
    assert slots.most_jobs(Hardware(kind="cpu", bf16=True)) == len(os.sched_getaffinity(0))


def test_jobs_and_torchrun_exclude_each_other(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.distributed.world_size", lambda: 2)
    assert main(call(colours, tmp_path, "--jobs", "2")) == 2
    assert "torchrun" in told(capsys)
