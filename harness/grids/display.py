"""The jobs of a grid that run now, each with its time and the last line of its log, for a display that is redrawn."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from rich.table import Table

from harness.durations import duration
from harness.grids import store
from harness.grids.jobs import Job

SHOWN = 16  # jobs; a cluster runs hundreds
TAIL = 4096  # bytes of a log that are looked at


class RunningJobs:
    """A table that rich draws anew each time.

    running: since when each runs (`time.monotonic`), by key; launchers keep it up to date.
    """

    def __init__(self, jobs: Sequence[Job], running: Mapping[str, float]) -> None:
        self._jobs, self._running = {job.key: job for job in jobs}, running

    def __rich__(self) -> Table:
        table = Table.grid(padding=(0, 2), expand=True)
        table.add_column(no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis", style="dim", ratio=1)  # what the others leave
        now, running = time.monotonic(), list(self._running.items())  # a copy: the launcher changes it meanwhile
        for key, since in running[:SHOWN]:
            job = self._jobs[key]
            table.add_row(job.label, duration(now - since), last_line(job.path / store.LOG))
        if len(running) > SHOWN:
            table.add_row(f"and {len(running) - SHOWN} more", "", "")
        return table


def last_line(log: Path) -> str:
    """The last line of a log that says something; empty where there is none."""
    with suppress(OSError), log.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - TAIL))
        lines = file.read().decode("utf-8", "replace").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "")
    return ""
