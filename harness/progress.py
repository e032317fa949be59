"""Progress bars in a terminal, occasional lines elsewhere; always on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from harness import distributed

_shown: Console | None = None  # of the bar on the terminal
REDRAWN = 10  # times in a second
LINE_EVERY = 30.0  # seconds between lines where there is no terminal


def note(text: str) -> None:
    """Print a line for the user; only the main process does."""
    if distributed.rank() == 0:
        # A bar that is being shown has to know of the line, or it leaves a copy of itself behind.
        console = _shown or Console(file=sys.__stderr__)
        console.print(text, markup=False, highlight=False, soft_wrap=True)


class _Lines:
    """Progress as lines, without a terminal (batch systems, CI logs)."""

    def __init__(self, title: str, total: int, done: int) -> None:
        self._title, self._total, self._done = title, total, done
        self._last = time.monotonic()

    def advance(self, count: int, detail: str) -> None:
        self._done = min(self._done + count, self._total)
        if self._done == self._total or time.monotonic() - self._last >= LINE_EVERY:
            self._last = time.monotonic()
            note(f"{self._title}: {self._done}/{self._total} {detail}".rstrip())


class _Bar:
    def __init__(self, progress: Progress, title: str, total: int, done: int) -> None:
        self._progress = progress
        self._task = progress.add_task(title, total=total, completed=done, detail="")

    def advance(self, count: int, detail: str) -> None:
        self._progress.update(self._task, advance=count, detail=detail)


class _Silent:
    def advance(self, count: int, detail: str) -> None:
        """Print nothing: only the main process reports progress."""


@contextmanager
def bar(
    title: str | None, total: int, *, done: int = 0, above: RenderableType = ""
) -> Iterator[_Bar | _Lines | _Silent]:
    """Show progress; yields an object with `advance(count, detail)`.

    Args:
        title: None for no output, for work inside of other work that has a bar.
        total: number of units of work.
        done: units that were done before.
        above: shown above the bar on a terminal, and drawn anew with it.
    """
    console = Console(file=sys.__stderr__)
    if distributed.rank() != 0 or title is None:
        yield _Silent()
    elif not console.is_terminal:
        yield _Lines(title, total, done)
    else:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        global _shown
        progress = Progress(*columns, TextColumn("{task.fields[detail]}"), console=console)
        with Live(Group(above, progress) if above else progress, console=console, refresh_per_second=REDRAWN):
            _shown = console
            try:
                yield _Bar(progress, title, total, done)
            finally:
                _shown = None


def track(things: Iterable, title: str) -> Iterator:
    """Iterate over a sized iterable with a progress bar."""
    things = things if hasattr(things, "__len__") else list(things)
    with bar(title, len(things)) as shown:
        for thing in things:
            yield thing
            shown.advance(1, "")
