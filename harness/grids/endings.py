"""Paragraphs about jobs that ended without a result."""

from __future__ import annotations

import signal
from contextlib import suppress

from harness.grids import store
from harness.grids.jobs import Job


def over_budget(job: Job) -> str:
    """The paragraph about a job that took longer than its grid allows."""
    return (
        f"it took longer than the {job.minutes:g} minutes of the grid's budget. Raise minutes in [budget], or "
        "shorten the training; with --retry-failed it goes on from its newest checkpoint."
    )


def of_status(job: Job, status: int | None) -> str:
    """The paragraph about a job whose process ended with a status, negative for a signal, and gave no reason."""
    if status is not None and status < 0:
        return f"its process was ended by {_signal_name(-status)}{_out_of_memory(-status)}."
    return f"its process ended with status {status}; see {job.path / store.LOG}."


def _signal_name(number: int) -> str:
    with suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"


def _out_of_memory(number: int) -> str:
    return ", which is often the system running out of memory" if number == signal.SIGKILL else ""
