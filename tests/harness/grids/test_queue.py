"""The queue of local processes: order, slots, failures, time limits, interruption."""

from __future__ import annotations

import io
import itertools
import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from backbones.errors import UsageError
from harness.grids import display, queue, store
from harness.grids.display import RunningJobs
from harness.grids.jobs import Job
from harness.grids.store import Found
from harness.hardware import Hardware
from harness.slots import Slot, slots
from tests.harness.grids import jobs
from tests.harness.grids.jobs import stage

ONE = [Slot(None, (0,))]
pytestmark = pytest.mark.spawn


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that train nothing, forked from a process without PyTorch."""
    monkeypatch.setattr(queue.worker, "work", jobs.work)
    monkeypatch.setattr(queue.job_process, "PRELOADED", ["tests.harness.grids.jobs"])
    monkeypatch.setattr(queue, "GRACE", 1.0)


def run(waiting: Sequence[Job], places: Sequence[Slot] = ONE, **options: object) -> dict[str, Found]:
    return {each.found.job.row: each.found for each in queue.run(waiting, places, done=set(), **options)}


def test_jobs_run_after_what_they_need_and_a_failure_stops_no_other(tmp_path: Path) -> None:
    first, broken = stage(tmp_path, "a"), stage(tmp_path, "fails")
    second = stage(tmp_path, "b", needs=(first.key,))
    blocked = stage(tmp_path, "c", needs=(broken.key,))
    last = stage(tmp_path, "d", needs=(blocked.key,))
    found = run([last, blocked, second, broken, first])
    assert {name: each.state for name, each in found.items()} == {
        "a": "done", "b": "done", "fails": "failed", "c": "blocked", "d": "blocked",
    }  # fmt: skip
    assert first.result.stat().st_mtime_ns <= second.result.stat().st_mtime_ns
    assert found["fails"].reason == "it rained"
    assert found["d"].reason == "its pretraining failed: it rained"
    assert not blocked.path.exists()


def test_jobs_with_a_failure_of_an_earlier_call_are_blocked_with_its_reason(tmp_path: Path) -> None:
    needs = stage(tmp_path, "fails")
    found = run([stage(tmp_path, "a", needs=(needs.key,))], failed={needs.key: "it snowed"})
    assert found["a"].reason == "its pretraining failed: it snowed"


def test_each_slot_has_one_job_at_a_time(tmp_path: Path) -> None:
    waiting = [stage(tmp_path, f"slow{number}") for number in range(5)]
    run(waiting, [Slot("3", (0,)), Slot("5", (0,))])
    times: dict[str, list[tuple[float, float]]] = {}
    for job in waiting:
        begun, ended, gpu, core = job.result.read_text().split()
        assert core == "0"
        times.setdefault(gpu, []).append((float(begun), float(ended)))
    assert set(times) == {"3", "5"}
    for spans in times.values():
        spans.sort()
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
    first, second = times.values()
    assert any(a[0] < b[1] and b[0] < a[1] for a in first for b in second), "no two ran at once"


@pytest.mark.parametrize("name", ["never", "never stubborn"])
def test_a_job_that_never_ends_is_ended(tmp_path: Path, name: str) -> None:
    endless, other = stage(tmp_path, name, minutes=0.02), stage(tmp_path, "a")
    found = run([endless, other])
    assert found["a"].state == "done"
    assert "longer than the 0.02 minutes" in found[name].reason and "--retry-failed" in found[name].reason
    assert store.look(endless).state == "failed"
    assert not alive(endless)


def test_a_process_that_is_killed_is_a_failure_with_its_signal(tmp_path: Path) -> None:
    killed = stage(tmp_path, "dies")
    assert "SIGKILL, which is often the system running out of memory" in run([killed])["dies"].reason
    assert store.look(killed).state == "failed"


def test_an_interruption_ends_every_process_and_calls_nothing_a_failure(tmp_path: Path) -> None:
    running = [stage(tmp_path, "never a"), stage(tmp_path, "never stubborn")]
    waiting = stage(tmp_path, "a")

    def interrupt() -> None:
        while not all((job.path / "pid").exists() for job in running):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)  # as a batch system does; Ctrl-C is the same

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run([*running, waiting], [Slot(None, (0,)), Slot(None, (0,))])
    assert not any(alive(job) for job in running)
    assert [store.look(job).state for job in (*running, waiting)] == ["unfinished", "unfinished", "new"]


def test_the_display_has_a_line_for_each_running_job(tmp_path: Path) -> None:
    waiting = [stage(tmp_path, f"slow{number}") for number in range(3)]
    running: dict[str, float] = {}
    seen = []
    for each in queue.run(waiting, [Slot(None, (0,)), Slot(None, (0,))], done=set(), running=running):
        assert len(running) == each.running
        seen.append(each.running)
    assert max(seen) == 1 and running == {}  # one of two ended, and the last was not started yet

    (waiting[1].path / store.LOG).write_text("fine-tune: 1/9\nfine-tune: 20/90 loss 1.25\n\n")
    shown = RunningJobs(waiting, {job.key: time.monotonic() - 65 for job in waiting[:2]})
    (waiting[0].path / store.LOG).write_text("a line that is far too long " * 9)
    console = Console(file=io.StringIO(), width=90)
    console.print(shown)
    first, second = console.file.getvalue().splitlines()
    assert "'slow0', seed 0  65 s  a line that" in first and first.rstrip().endswith("…")
    assert second.rstrip().endswith("'slow1', seed 0  65 s  fine-tune: 20/90 loss 1.25")
    many = [stage(tmp_path, str(number)) for number in range(display.SHOWN + 2)]
    console.print(RunningJobs(many, {job.key: 0.0 for job in many}))
    assert console.file.getvalue().splitlines()[-1].strip() == "and 2 more"


def alive(job: Job) -> bool:
    try:
        os.kill(int((job.path / "pid").read_text()), 0)
    except ProcessLookupError:
        return False
    return True


def test_slots_share_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 4, 5}, raising=False)
    cpu = Hardware(kind="cpu", bf16=False)
    assert slots(cpu, None) == [Slot(None, (0, 1, 2, 3, 4, 5))]
    assert slots(cpu, 2) == [Slot(None, (0, 1, 2)), Slot(None, (3, 4, 5))]
    gpus = Hardware(kind="cuda", name="GPU", bf16=True, gpus=("0", "2"))
    assert slots(gpus, None) == [Slot("0", (0, 1, 2)), Slot("2", (3, 4, 5))]
    assert slots(gpus, 1) == [Slot("0", (0, 1, 2, 3, 4, 5))]
    for wrong in (0, 7):
        with pytest.raises(UsageError, match="from 1 to 6"):
            slots(cpu, wrong)
    with pytest.raises(UsageError, match="from 1 to 2"):
        slots(gpus, 3)
