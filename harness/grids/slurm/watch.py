"""Grids in SLURM, submitted at once and watched to their end; whoever stops watching stops no job."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from harness.grids import store
from harness.grids.jobs import Job
from harness.grids.queue import BLOCKED, Ended
from harness.grids.slurm import squeue
from harness.grids.slurm.squeue import SETTLED, State
from harness.grids.slurm.submission import ID, RefusedError, Submission, batches
from harness.grids.store import Found
from harness.progress import note

LOOK_FIRST, LOOK_LAST, LONGER = 1.0, 15.0, 1.5  # seconds between two looks, which grow while nothing happens


def run(
    jobs: Sequence[Job],
    submission: Submission,
    *,
    states: Mapping[str, State],
    done: set[str],
    failed: Mapping[str, str] | None = None,
    running: dict[str, float] | None = None,
) -> Generator[Ended, None, None]:
    """Submit jobs, but for those that are in SLURM since an earlier call; yields each when it has ended.

    A job whose stage failed is yielded as blocked. An interruption leaves the jobs in SLURM.

    Args:
        states: of jobs in SLURM, from before anybody looked which jobs are done: one that ended since is not submitted
            again.
        done, failed, running: as of `harness.grids.queue.run`.

    Raises:
        RefusedError: SLURM takes none of the jobs.
    """
    watch = _Watch(submission, states, set(done), dict(failed or {}), {} if running is None else running)
    refused = watch.start(jobs)
    try:
        yield from (watch.told(found) for found in refused)
        yield from watch.ended()
    finally:
        watch.leave()


@dataclass
class _Watch:
    submission: Submission
    states: Mapping[str, State]
    done: set[str]
    failed: dict[str, str]
    running: dict[str, float]
    flying: dict[str, tuple[Job, str]] = field(default_factory=dict)  # job and name in SLURM, by key
    missed: dict[str, float] = field(default_factory=dict)  # since when a job has ended in SLURM without a result

    def start(self, jobs: Sequence[Job]) -> list[Found]:
        """Submit what is not in SLURM yet; returns jobs that SLURM refused, and those that wait in vain."""
        for job in jobs:
            if name := self._adopted(job):
                self.flying[job.key] = job, name
        adopted, refused = len(self.flying), []
        left = [job for job in jobs if job.key not in self.flying]
        names = {key: name for key, (_, name) in self.flying.items()}
        for group, needs in batches(left, done=self.done, running=names):
            if any(key in self.failed for key in needs):
                continue
            try:
                names |= self.submission.grid(group, [names[key] for key in needs])
            except RefusedError as error:
                if not self.flying:
                    raise
                self.failed |= {job.key: str(error) for job in group}
                refused += [Found(job=job, state="failed", reason=str(error)) for job in group]
                continue
            self.flying |= {job.key: (job, names[job.key]) for job in group}
        told = f"{adopted} of them since an earlier call, " if adopted else ""
        note(f"{len(self.flying)} jobs are in SLURM, {told}as {', '.join(self._arrays())} (squeue --me shows them)")
        given = {found.job.key for found in refused} | self.flying.keys()
        return [*refused, *(self._blocked(job) for job in jobs if job.key not in given)]

    def ended(self) -> Iterator[Ended]:
        pause = LOOK_FIRST
        while self.flying:
            found = self._look()
            for each in found:
                yield self.told(each)
            if self.flying:
                pause = LOOK_FIRST if found else min(LONGER * pause, LOOK_LAST)
                time.sleep(pause)

    def told(self, found: Found) -> Ended:
        return Ended(found, len(self.running), len(self.flying) - len(self.running))

    def leave(self) -> None:
        """Say what becomes of jobs that are not watched to their end."""
        if self.flying:
            note(
                f"{len(self.flying)} jobs go on in SLURM. The same command shows them, and `scancel "
                f"{' '.join(self._arrays())}` ends them."
            )

    def _adopted(self, job: Job) -> str:
        """The name in SLURM of a job that an earlier call submitted and that has not ended; empty for others."""
        known = store.read(job.path / ID) or {}
        state = self.states.get(known.get("id", ""))
        return known["id"] if state and state.name == self.submission.name and not state.ended else ""

    def _look(self) -> list[Found]:
        """Jobs that have ended since the last look."""
        try:
            self.states = squeue.states()
        except squeue.SilentError as error:
            note(f"squeue does not answer ({error}). The jobs go on; looking again.")
            return []
        found = []
        for key in list(self.flying):  # stages come before the jobs that need them
            if each := self._found(key):
                found.append(each)
                del self.flying[key]
                if each.state != "done":
                    self.failed[key] = each.reason
        self._note_running()
        return found

    def _found(self, key: str) -> Found | None:
        """A job that has ended, None while it goes on."""
        job, name = self.flying[key]
        if any(stage in self.failed for stage in job.needs):
            return self._blocked(job)
        found, state = store.look(job), self.states.get(name)
        if found.state == "done":
            return found
        if state is not None and not state.ended:
            self.missed.pop(key, None)
            return None
        if found.state in ("failed", "foreign"):
            return found
        since = self.missed.setdefault(key, time.monotonic())
        if time.monotonic() - since < SETTLED:
            return None
        why = squeue.ENDED[state.state] if state else "it is gone from SLURM without a result"
        reason = f"{why} (job {name}; log: {job.path / store.LOG}). With --retry-failed it goes on where it stopped."
        store.fail(job, reason)
        return Found(job=job, state="failed", reason=reason)

    def _blocked(self, job: Job) -> Found:
        reason = next((self.failed[key] for key in job.needs if key in self.failed), "it was not run")
        reason = reason.removeprefix(BLOCKED)
        self.failed[job.key] = reason
        return Found(job=job, state="blocked", reason=f"{BLOCKED}{reason}")

    def _note_running(self) -> None:
        now = {key for key, (_, name) in self.flying.items() if (s := self.states.get(name)) and s.state == "RUNNING"}
        for key in self.running.keys() - now:
            del self.running[key]
        for key in now:
            self.running.setdefault(key, time.monotonic())

    def _arrays(self) -> list[str]:
        """Names of the arrays and jobs in SLURM."""
        return list(dict.fromkeys(name.partition("_")[0] for _, name in self.flying.values()))
