"""Watching jobs in SLURM: how each way to end is told, and nothing is submitted twice, with a squeue of the test's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from harness.grids import store
from harness.grids.jobs import Job
from harness.grids.slurm import squeue, watch
from harness.grids.slurm.squeue import State
from harness.grids.slurm.submission import ID, RefusedError, batches
from harness.grids.store import Found
from harness.workdir import write_json
from tests.harness.grids.jobs import stage

NAME = "harness-grid"


class Taken:
    """A submission that gives numbers, or is refused for jobs of some names."""

    name = NAME

    def __init__(self, *refused: str) -> None:
        self.refused, self.arrays = refused, []

    def grid(self, jobs: Sequence[Job], after: Sequence[str]) -> dict[str, str]:
        if any(job.row in self.refused for job in jobs):
            raise RefusedError("SLURM does not take the jobs (too many).")
        self.arrays.append([[job.row for job in jobs], list(after)])
        return {job.key: f"{len(self.arrays)}_{index}" for index, job in enumerate(jobs)}


def told(monkeypatch: pytest.MonkeyPatch, *answers: Mapping[str, State] | Exception) -> None:
    """Have squeue answer these one after the other, and the last one for ever."""
    left = list(answers)

    def states() -> Mapping[str, State]:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(squeue, "states", states)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "LOOK_FIRST", 0.001)
    monkeypatch.setattr(watch, "SETTLED", 0.0)


def run(jobs: Sequence[Job], submission: Taken, **options: object) -> dict[str, Found]:
    given = {"states": {}, "done": set(), **options}
    return {each.found.job.row: each.found for each in watch.run(jobs, submission, **given)}


def state(name: str) -> State:
    return State(name, "None", NAME)


@pytest.mark.parametrize(
    ("ended", "why"),
    [
        ("NODE_FAIL", "its node was lost, and SLURM did not requeue it"),
        ("TIMEOUT", "at its time limit"),
        ("OUT_OF_MEMORY", "more memory than was asked for"),
        ("CANCELLED", "was cancelled in SLURM"),
        ("", "gone from SLURM without a result"),
    ],
)
def test_every_end_without_a_result_is_a_failure_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: str, why: str
) -> None:
    told(monkeypatch, {"1_0": state("RUNNING")}, {"1_0": state(ended)} if ended else {})
    job = stage(tmp_path, "a")
    found = run([job], Taken())["a"]
    assert found.state == "failed" and why in found.reason and "--retry-failed" in found.reason
    assert store.look(job).reason == found.reason


def test_a_requeued_job_has_not_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = stage(tmp_path, "a")
    told(monkeypatch, {"1_0": state("RUNNING")}, {"1_0": state("PENDING")}, squeue.SilentError("away"), {})
    assert "gone" in run([job], Taken())["a"].reason


def test_a_refused_array_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = stage(tmp_path, "a"), stage(tmp_path, "b")
    refused, blocked = stage(tmp_path, "c", needs=(first.key,)), stage(tmp_path, "d", needs=(second.key,))
    last = stage(tmp_path, "e", needs=(refused.key,))
    told(monkeypatch, {})
    found = run([first, second, refused, blocked, last], Taken("c"))
    assert found["c"].reason == "SLURM does not take the jobs (too many)."
    assert store.look(refused).state == "new"  # the same command submits it again
    assert found["e"].state == "blocked" and "too many" in found["e"].reason
    assert found["d"].state == "blocked" and "gone from SLURM" in found["d"].reason
    with pytest.raises(RefusedError):
        run([refused], Taken("c"), done={first.key})


def test_jobs_of_an_earlier_call_are_not_submitted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running, other, ended = stage(tmp_path, "a"), stage(tmp_path, "b"), stage(tmp_path, "c")
    for job, name in ((running, "7_0"), (other, "7_1"), (ended, "7_2")):
        write_json(job.path / ID, {"id": name, "name": NAME})
    before = {"7_0": state("RUNNING"), "7_1": State("RUNNING", "", "another's"), "7_2": state("COMPLETED")}
    told(monkeypatch, {})
    submission = Taken()
    run([running, other, ended], submission, states=before)
    assert submission.arrays == [[["b", "c"], []]]


def test_arrays_wait_for_the_stages_that_they_need(tmp_path: Path) -> None:
    done, one, two = stage(tmp_path, "done"), stage(tmp_path, "one"), stage(tmp_path, "two")
    after = [stage(tmp_path, f"after {n}", needs=(done.key, one.key)) for n in range(2)]
    both = stage(tmp_path, "both", needs=(one.key, two.key, after[0].key))
    found = list(batches([both, *after, two], done={done.key}, running={one.key: "7"}))
    assert [([job.row for job in group], set(needs)) for group, needs in found] == [
        (["after 0", "after 1"], {one.key}), (["two"], set()), (["both"], {one.key, two.key, after[0].key}),
    ]  # fmt: skip
