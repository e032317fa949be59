"""Execution of a planned grid: what is missing is run, here or in SLURM, and everything is read for the table."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache, partial
from typing import Protocol

from backbones.errors import InputError
from harness.durations import duration
from harness.grids import store
from harness.grids.display import RunningJobs
from harness.grids.fine_tuning import RUN
from harness.grids.jobs import Job
from harness.grids.planning import Plan
from harness.grids.queue import BLOCKED, Ended
from harness.grids.store import Found
from harness.progress import bar, note
from harness.workdir import REPLICATES
from leaderboards import replicates
from leaderboards.grids.table import CellResult, Place
from leaderboards.replicates import Replicates


def looked(plan: Plan) -> dict[str, Found]:
    """All jobs of a plan as they are on disk, by key."""
    return {job.key: store.look(job) for job in plan.jobs}


def missing(plan: Plan, found: Mapping[str, Found], *, retry_failed: bool) -> list[Job]:
    """The jobs that have to run: cells without a result, and stages that such a cell needs."""
    again = {"new", "unfinished"} | ({"failed"} if retry_failed else set())
    wanted = {job.key for job in plan.jobs if job.kind == "cell" and found[job.key].state in again}
    for job in reversed(plan.jobs):  # a stage comes after those that it needs
        if job.key in wanted:
            wanted |= {key for key in job.needs if found[key].state != "done"}
    return [job for job in plan.jobs if job.key in wanted and found[job.key].state in again]


class Launch(Protocol):
    """Way to run jobs; see `harness.grids.queue.run` and `harness.grids.slurm.watch.run`."""

    def __call__(
        self, jobs: Sequence[Job], *, done: set[str], failed: Mapping[str, str], running: dict[str, float]
    ) -> Generator[Ended, None, None]:
        """Run jobs; yields each when it has ended."""


def run(plan: Plan, launch: Launch, *, place: str, retry_failed: bool) -> dict[str, Found]:
    """Run what is missing; returns all jobs as they are then.

    Args:
        place: of the jobs, in words.
    """
    plan.code_change.record()
    found = {key: store.relabel(each) if each.rows else each for key, each in looked(plan).items()}
    jobs = missing(plan, found, retry_failed=retry_failed)
    done = {key for key, each in found.items() if each.state == "done"}
    failed = {key: each.reason for key, each in found.items() if each.state in ("failed", "foreign")}
    failed = {key: reason for key, reason in failed.items() if key not in {job.key for job in jobs}}
    if not jobs:
        return found
    note(f"{plan.grid.name}: {len(jobs)} of {len(plan.jobs)} jobs to run, {place} -> {plan.folder}")
    running: dict[str, float] = {}
    ending = launch(jobs, done=done, failed=failed, running=running)
    with bar(plan.grid.name, len(jobs), above=RunningJobs(jobs, running)) as shown, closing(ending) as ended:
        for each in ended:
            found[each.found.job.key] = each.found
            if each.found.state != "blocked":
                note(_told(each.found))
            shown.advance(1, f"{each.running} running, {each.waiting} waiting")
    return found


def _told(found: Found) -> str:
    """A line about a job that ended."""
    job = found.job
    if found.state != "done":
        return f"Not done: {job.label}: {found.reason} (log: {job.path / store.LOG})"
    value = next((row.value for row in found.rows if row.metric == job.metric), None)
    shown = "" if value is None else f": {job.metric} {value:.3f}"
    return f"Done: {job.label}{shown} ({duration(found.seconds or 0)})"


def results(plan: Plan, found: Mapping[str, Found]) -> tuple[dict[Place, CellResult], dict[Place, str]]:
    """Finished cells, and why others have no result, by place."""
    whole: dict[Place, CellResult] = {}
    failed: dict[Place, str] = {}
    for place, job in plan.cells.items():
        each = found[job.key]
        row = next((row for row in each.rows if row.metric == job.metric), None)
        if row is not None and row.value is not None:
            whole[place] = CellResult(row=row, replicates=cache(partial(_replicates, job)))
        elif row is not None:
            failed[place] = row.note or "the metric could not be computed"
        elif each.reason:
            failed[place] = each.reason
        elif reason := _failed_stage(job, found):
            failed[place] = f"{BLOCKED}{reason}"
    return whole, failed


def _failed_stage(job: Job, found: Mapping[str, Found]) -> str:
    """The reason of the stage that a job waits for in vain."""
    for key in job.needs:
        stage = found[key]
        if reason := (stage.reason if stage.state == "failed" else _failed_stage(stage.job, found)):
            return reason
    return ""


def _replicates(job: Job) -> Replicates:
    path = job.path / job.options["task"] / RUN / REPLICATES
    for one in replicates.read(path):
        if (one.split, one.metric) == (job.options["split"], job.metric):
            return one
    raise InputError(f"{path} has no replicates of {job.metric}. Remove that cell's folder, and run the grid again.")


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Time of missing jobs. seconds: of those of a kind that was measured; unknown: number of the others."""

    seconds: float
    unknown: int


def forecast(jobs: Sequence[Job], found: Mapping[str, Found], *, slots: int) -> Forecast:
    """Forecast from the mean time of finished jobs of the same column, or of the same stage."""
    times: dict[tuple[str, str], list[float]] = {}
    for each in found.values():
        if each.state == "done" and each.seconds is not None:
            times.setdefault((each.job.kind, each.job.column), []).append(each.seconds)
    known = [times[job.kind, job.column] for job in jobs if (job.kind, job.column) in times]
    total = math.fsum(sum(own) / len(own) for own in known)
    return Forecast(seconds=total / max(1, min(slots, len(known))), unknown=len(jobs) - len(known))


def strangers(plan: Plan) -> int:
    """Number of folders beside the cells that are no cell of the grid as it is now."""
    own = {job.path for job in plan.cells.values()}
    beside = {job.path.parent for job in plan.cells.values()}
    return sum(path not in own for folder in beside if folder.is_dir() for path in folder.iterdir())
