"""Folders of a grid's jobs: their specification, how they ended, and the rows of cells.

    specification.json   written when the job starts
    log.txt              everything that it says
    rows.csv             of a cell, written in one move when it has been scored
    done.json            when the job is done: seconds
    failed.json          when it failed: why

Nothing is shared between folders, so jobs on any number of machines need no lock for their results.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from harness.grids import identity as identities
from harness.grids.jobs import Job
from harness.workdir import write_json
from leaderboards import rows
from leaderboards.csv_file import ResultsError
from leaderboards.rows import ResultRow

SPECIFICATION, DONE, FAILED, LOG, ROWS = "specification.json", "done.json", "failed.json", "log.txt", "rows.csv"
State = Literal["done", "failed", "blocked", "unfinished", "new", "foreign"]


@dataclass(frozen=True, kw_only=True)
class Found:
    """A job as it is on disk.

    reason: why it failed, or what is wrong with its folder. seconds: that it took, None where that is not known.
    rows: of a finished cell.
    """

    job: Job
    state: State
    reason: str = ""
    seconds: float | None = None
    rows: tuple[ResultRow, ...] = ()


def look(job: Job) -> Found:
    """Look at a job's folder."""
    stored = read(job.path / SPECIFICATION)
    if stored is None:
        return Found(job=job, state="new")
    if stored.get("identity") != job.identity:
        return Found(job=job, state="foreign", reason=_foreign(job, stored))
    if done := read(job.path / DONE):
        found = _rows(job) if job.kind == "cell" else ()
        if found or (job.kind == "stage" and job.result.is_file()):
            return Found(job=job, state="done", seconds=done.get("seconds"), rows=found)
    if failure := read(job.path / FAILED):
        return Found(job=job, state="failed", reason=str(failure.get("reason", "")))
    return Found(job=job, state="unfinished")


def _rows(job: Job) -> tuple[ResultRow, ...]:
    """The rows of a cell; none where the file is absent or damaged: the cell is scored again then."""
    path = job.path / ROWS
    try:
        if not path.read_bytes().endswith(b"\n"):
            return ()
        found = tuple(rows.read(path))
    except (OSError, UnicodeDecodeError, ResultsError):
        return ()
    return found if any(row.metric == job.metric for row in found) else ()


def _foreign(job: Job, stored: Mapping[str, Any]) -> str:
    changes = identities.difference(stored.get("identity") or {}, job.identity)
    named = ", ".join(list(changes)[:5]) or "its specification"
    return (
        f"{job.path} holds a cell of another grid (it differs in {named}), so {job.label} cannot be kept there. Move "
        "that folder away, and run the same command again."
    )


def begin(job: Job) -> None:
    """Write a job's specification, and forget an earlier failure and damaged rows, which the run's folder has whole."""
    write_json(job.path / SPECIFICATION, job.specification())
    for name in (FAILED, ROWS):
        (job.path / name).unlink(missing_ok=True)


def finish(job: Job, *, seconds: float) -> None:
    """Write that a job is done."""
    write_json(job.path / DONE, {"seconds": round(seconds, 2), "finished": _now()})


def fail(job: Job, reason: str) -> None:
    """Write that a job failed, maybe before it began, if the disk takes it."""
    with suppress(OSError, Exception):
        if not (job.path / SPECIFICATION).exists():
            write_json(job.path / SPECIFICATION, job.specification())
        write_json(job.path / FAILED, {"reason": reason, "failed": _now()})


def read(path: Path) -> dict[str, Any] | None:
    """A JSON file of keys and values; None where it is absent or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def relabel(found: Found) -> Found:
    """Write the rows of a finished cell again where the grid calls it otherwise now, or where other code counts."""
    job = found.job
    columns = labels(job)
    wanted = tuple(replace(row, **columns) for row in found.rows)
    if wanted != found.rows:
        rows.write(job.path / ROWS, wanted)
    return replace(found, rows=wanted)


def labels(job: Job) -> dict[str, str]:
    """Columns of a cell's rows about its place in the grid."""
    return {"grid": job.grid, "variant": job.row, "cell": job.key, "code_change": job.code_change}


def stored_jobs(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """The folders of jobs in a folder, with their specifications."""
    if not folder.is_dir():
        return []
    found = ((path.parent, read(path)) for path in sorted(folder.glob(f"*/{SPECIFICATION}")))
    return [(path, stored) for path, stored in found if stored is not None]


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
