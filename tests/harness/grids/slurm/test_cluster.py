"""Grids on a real SLURM of two nodes on this machine: requeued, lost, cancelled and blocked jobs, and a real cell."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from harness.cli import main
from harness.grids import store
from harness.grids.jobs import Job
from harness.grids.slurm import pinned, squeue, submission, watch
from harness.grids.slurm.fields import Fields
from harness.grids.slurm.submission import ID, Submission
from tests.conftest import REPOSITORY
from tests.harness.grids.jobs import count_starts, stage
from tests.harness.grids.test_planning import GRID, written
from tests.harness.test_cli import told
from tests.support import slurm

pytest.importorskip("submitit", reason="no submitit here (the extra slurm)")
pytestmark = [
    pytest.mark.spawn,
    pytest.mark.slow,
    pytest.mark.skipif(bool(slurm.missing()), reason=slurm.missing() or "SLURM is here"),
]
WITHIN = 180.0  # seconds


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with slurm.cluster(tmp_path_factory.mktemp("slurm")):
        yield


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look often, and let jobs import the tests."""
    monkeypatch.setattr(watch, "LOOK_FIRST", 0.2)
    monkeypatch.setattr(watch, "LOOK_LAST", 0.2)
    monkeypatch.setattr(watch, "SETTLED", 2.0)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))


@pytest.fixture
def light(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Submission:
    """A submission of jobs that train nothing."""
    monkeypatch.setattr(submission, "PROCESS", "tests.harness.grids.slurm.process")
    folder = tmp_path / "slurm"
    fields = Fields(minutes=10, nodes=1, others={"cpus-per-task": "1"})
    code = pinned.copy(folder / "code")
    return Submission(fields, folder=folder, code=code, name="harness-test", at_once=None)


def test_jobs_that_slurm_refuses(cluster: None, colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    written(tmp_path)
    call = ["ablate", str(tmp_path / "grid.toml"), "--data", str(colours), "--out", str(tmp_path / "out")]
    call += ["--launcher", "slurm", "--slurm", "time=10"]
    assert main([*call, "--slurm", "partition=nope"]) == 1
    assert "SLURM does not take the jobs (sbatch: error: invalid partition specified: nope" in told(capsys)
    assert main([*call, "--slurm", "partitoin=main"]) == 2
    assert "Did you mean partition" in told(capsys)


@pytest.mark.training
def test_a_cell_on_two_nodes(cluster: None, colours: Path, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    written(tmp_path, GRID.replace("micro_batch = 8", "micro_batch = 4").partition('[[rows]]\nname = "fast"')[0])
    call = ["ablate", str(tmp_path / "grid.toml"), "--data", str(colours), "--out", str(tmp_path / "out")]
    call += ["--seeds", "0", "--launcher", "slurm", "--slurm", "nodes=2", "--slurm", "time=10", "--json"]
    assert main(call) == 0
    answer = json.loads(capfd.readouterr().out)
    assert [row["seeds"] for row in answer["rows"]] == [[0]]
    cells = tmp_path / "out" / "grid" / "cells"
    found = [json.loads(path.read_text()) for path in cells.glob("*/imagenet/run/result.json")]
    assert {row["train_processes"] for rows in found for row in rows} == {2}
    assert main(call) == 0
    assert "jobs are in SLURM" not in capfd.readouterr().err


def test_jobs_are_requeued_and_no_failure_stops_another(
    cluster: None, light: Submission, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    first, fails = stage(tmp_path, "a"), stage(tmp_path, "fails")
    after, blocked = stage(tmp_path, "b", needs=(first.key,)), stage(tmp_path, "c", needs=(fails.key,))
    warned, requeued, lost = stage(tmp_path, "waits warned"), stage(tmp_path, "waits"), stage(tmp_path, "waits lost")
    cancelled, killed = stage(tmp_path, "never"), stage(tmp_path, "dies")
    late = stage(tmp_path, "never late", minutes=0.02)
    everything = [first, fails, warned, requeued, lost, cancelled, killed, late, after, blocked]

    ended = watch.run(everything, light, states={}, done=set())
    next(ended)
    ended.close()  # as Ctrl-C does
    assert "jobs go on in SLURM. The same command shows them" in capfd.readouterr().err
    states = squeue.states()
    found = {job.row: store.look(job) for job in everything}
    done = {each.job.key for each in found.values() if each.state == "done"}
    failed = {each.job.key: each.reason for each in found.values() if each.state == "failed"}
    left = [job for job in everything if job.key not in done | failed.keys()]
    names = [name_of(job) for job in left]
    threading.Thread(target=disturb, args=(warned, requeued, lost, cancelled), daemon=True).start()
    ended = watch.run(left, light, states=states, done=done, failed=failed)
    found |= {each.found.job.row: each.found for each in ended}
    assert [name_of(job) for job in left] == names, "jobs were submitted twice"

    assert {row: each.state for row, each in found.items()} == {
        "a": "done", "b": "done", "waits warned": "done", "waits": "done", "waits lost": "done", "fails": "failed",
        "c": "blocked", "never": "failed", "dies": "failed", "never late": "failed",
    }  # fmt: skip
    assert [count_starts(job) for job in (warned, requeued, lost, first)] == [2, 2, 2, 1]
    assert first.result.stat().st_mtime_ns <= after.result.stat().st_mtime_ns
    assert "it was cancelled in SLURM (job" in found["never"].reason
    assert "SIGKILL" in found["dies"].reason
    assert "longer than the 0.02 minutes of the grid's budget" in found["never late"].reason
    assert found["c"].reason == "its pretraining failed: it rained"
    assert count_starts(blocked) == 0
    code, cores = first.result.read_text().split()[2:]
    assert cores == "1"
    assert Path(code).is_relative_to(tmp_path / "slurm" / "code"), "jobs import what is edited meanwhile"


def name_of(job: Job) -> str:
    return json.loads((job.path / ID).read_text())["id"]


def disturb(warned: Job, requeued: Job, lost: Job, cancelled: Job) -> None:
    """Interrupt jobs in the ways of a cluster, once they run."""
    jobs = (warned, requeued, lost, cancelled)
    until(lambda: all((job.path / "pid").exists() for job in jobs))
    call("scancel", "--signal=USR2", name_of(warned))  # what SLURM sends before the time limit and on preemption
    call("scontrol", "requeue", name_of(requeued))
    call("scancel", name_of(cancelled))
    until(lambda: requeue_waits(warned) and requeue_waits(requeued))
    node = call("squeue", "--array", "--noheader", "--format=%i %N").split(f"{name_of(lost)} ")[1].split()[0]
    call("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=lost")
    until(lambda: requeue_waits(lost))
    for job in (warned, requeued, lost):
        until(partial(started_again, job))


def requeue_waits(job: Job) -> bool:
    state = squeue.states().get(name_of(job))
    return state is not None and state.state == "PENDING"


def started_again(job: Job) -> bool:
    """Have a requeued job start at once, which SLURM lets wait for two minutes."""
    if count_starts(job) == 1:
        subprocess.run(["scontrol", "update", f"JobId={name_of(job)}", "StartTime=now"], capture_output=True)
    return count_starts(job) > 1


def until(happened: object) -> None:
    deadline = time.monotonic() + WITHIN
    while not happened() and time.monotonic() < deadline:
        time.sleep(0.1)


def call(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
