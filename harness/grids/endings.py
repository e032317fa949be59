"""Paragraphs about jobs that ended without a result."""

from __future__ import annotations

import signal
from contextlib import suppress
from pathlib import Path

from harness.grids.jobs import Job


def over_budget(job: Job) -> str:
    """The paragraph about a job that took longer than its grid allows."""
    return (
        f"it took longer than the {job.minutes:g} minutes of the grid's budget. Raise minutes in [budget], or "
        "shorten the training; with --retry-failed it goes on from its newest checkpoint."
    )


def of_status(log: Path, status: int | None) -> str:
    """The paragraph about a process that ended with a status, negative for a signal, and gave no reason.

    Args:
        log: file of all that it said.
    """
    if status is not None and status < 0:
        return f"its process was ended by {_signal_name(-status)}{_out_of_memory(-status)}."
    return f"its process ended with status {status}; see {log}."


def _signal_name(number: int) -> str:
    with suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"


def _out_of_memory(number: int) -> str:
    return ", which is often the system running out of memory" if number == signal.SIGKILL else ""
