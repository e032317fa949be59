"""Bounded queue of local processes: one job for each GPU, or so many on the CPU, in the order that they need."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import NamedTuple

from harness import job_process
from harness.grids import jobs, store, worker
from harness.grids.jobs import Job
from harness.grids.store import Found
from harness.slots import Slot

GRACE = 20.0  # seconds between the signal to stop and the one that ends, where a job is over its time limit
INTERRUPTED_GRACE = 1.0  # the same where the command is interrupted, which ends soon after (harness.signals)
BLOCKED = "its pretraining failed: "
LOOK_EVERY = 0.5  # seconds between two looks at time limits


@dataclass
class _Running:
    job: Job
    process: BaseProcess
    slot: Slot
    begun: float
    stopped: float | None = None  # when it was told to stop

    @property
    def overdue(self) -> bool:
        return bool(self.job.minutes) and time.monotonic() - self.begun > 60 * self.job.minutes


class Ended(NamedTuple):
    """A job that ended: as it is on disk, and how many are running and waiting."""

    found: Found
    running: int
    waiting: int


def run(
    jobs: Sequence[Job],
    places: Sequence[Slot],
    *,
    done: set[str],
    failed: Mapping[str, str] | None = None,
    running: dict[str, float] | None = None,
) -> Iterator[Ended]:
    """Run jobs, each as soon as what it needs is done and a slot is free; yields each when it has ended.

    A job whose stage failed is yielded as blocked. On an interruption every process is told to stop, and ended where it
    does not.

    Args:
        done: keys of jobs that are done; those that end well are added.
        failed: keys of jobs that failed before and are not run again, with their reasons.
        running: gets since when each job runs (`time.monotonic`), by key, while it runs.
    """
    queue = _Queue(list(jobs), list(places), done, dict(failed or {}), {} if running is None else running)
    with _terminated_as_interrupted(), queue:
        yield from queue.ended()


class _Queue:
    def __init__(
        self, waiting: list[Job], free: list[Slot], done: set[str], failed: dict[str, str], since: dict[str, float]
    ) -> None:
        self._context = job_process.context(free)
        self._waiting, self._free, self._done = waiting, free, done
        self._failed, self._since = failed, since
        self._running: list[_Running] = []

    def __enter__(self) -> _Queue:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._running:
            _stop(each)
        deadline = time.monotonic() + INTERRUPTED_GRACE
        for each in self._running:
            each.process.join(max(0.0, deadline - time.monotonic()))
            _kill(each)

    def ended(self) -> Iterator[Ended]:
        while self._waiting or self._running:
            for found in self._blocked():
                yield self._told(found)
            self._start()
            if self._running:
                wait([each.process.sentinel for each in self._running], timeout=LOOK_EVERY)
            for found in self._collect():
                yield self._told(found)

    def _told(self, found: Found) -> Ended:
        return Ended(found, len(self._running), len(self._waiting))

    def _blocked(self) -> Iterator[Found]:
        """Jobs that wait for a stage that failed, or that is not in the queue."""
        coming = {job.key for job in self._waiting} | {each.job.key for each in self._running}
        for job in list(self._waiting):
            reasons = [self._failed.get(key, "it was not run") for key in job.needs if key not in self._done | coming]
            if reasons:
                self._waiting.remove(job)
                self._failed[job.key] = reasons[0]
                yield Found(job=job, state="blocked", reason=f"{BLOCKED}{reasons[0].removeprefix(BLOCKED)}")

    def _start(self) -> None:
        for job in list(self._waiting):
            if self._free and self._done.issuperset(job.needs):
                self._waiting.remove(job)
                slot = self._free.pop(0)
                call = (job.specification(), str(job.path / store.LOG), slot.gpu, slot.cores)
                process = self._context.Process(target=worker.work, args=call, daemon=False)
                process.start()
                self._since[job.key] = time.monotonic()
                self._running.append(_Running(job, process, slot, self._since[job.key]))

    def _collect(self) -> Iterator[Found]:
        for each in list(self._running):
            if each.process.is_alive():
                if each.overdue and each.stopped is None:
                    each.stopped = time.monotonic()
                    _stop(each)
                elif each.stopped is not None and time.monotonic() - each.stopped > GRACE:
                    _kill(each)
                continue
            each.process.join()
            self._running.remove(each)
            del self._since[each.job.key]
            self._free.append(each.slot)
            found = _outcome(each)
            if found.state == "done":
                self._done.add(each.job.key)
            else:
                self._failed[each.job.key] = found.reason
            yield found


def _outcome(each: _Running) -> Found:
    """A job after its process has ended; the reason of a failure that the process could not write is written here."""
    job, status = each.job, each.process.exitcode
    found = store.look(job)
    if found.state == "done":
        return found
    if status == worker.BUSY:
        return Found(job=job, state="unfinished", reason="another process works in its folder")
    reason = found.reason
    if each.stopped is not None:
        reason = jobs.over_budget(job)
    elif not reason or (status is not None and status < 0):
        reason = job_process.ending(job.path / store.LOG, status)
    if reason != found.reason:
        store.fail(job, reason)
    return Found(job=job, state="failed", reason=reason)


def _stop(each: _Running) -> None:
    """Interrupt a job as Ctrl-C does."""
    job_process.end(each.process, signal.SIGINT)


def _kill(each: _Running) -> None:
    """End what is left of a job, its loader processes too."""
    job_process.end(each.process, signal.SIGKILL)
    each.process.join()


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Handle SIGTERM, such as a batch system's, as Ctrl-C, unless this process has a handler of its own for it."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
