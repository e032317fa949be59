"""What a command answers: data for programs, a rendering for people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from leaderboards.rows import ResultRow


@dataclass(frozen=True)
class Answer:
    """data: JSON-able. show: prints it for people. ok: whether everything asked for was done."""

    data: Any
    show: Callable[[Console], None]
    ok: bool = True


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Callable[[Console], None]:
    """A rendering as a table; long cells wrap, those of the first column excepted."""

    def show(console: Console) -> None:
        from rich import box
        from rich.table import Table

        drawn = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for number, column in enumerate(columns):
            drawn.add_column(column, overflow="fold", no_wrap=number == 0)
        for row in rows:
            drawn.add_row(*row)
        console.print(drawn, markup=False)

    return show


def _number(row: ResultRow) -> tuple[str, str]:
    """The value and its interval; a value that could not be computed is a dash."""
    if row.value is None:
        return "–", ""
    return f"{row.value:.3f} {'%' if row.unit == 'percent' else row.unit}", f"{row.low:.3f} – {row.high:.3f}"


def rows_table(title: str, rows: Sequence[ResultRow]) -> Callable[[Console], None]:
    """Result rows: the number, its interval and what it is over; below, why there is no number."""
    numbers = table(
        title,
        ("task", "split", "metric", "value", "95% interval", "n", "backbone"),
        [(row.task, row.split, row.metric, *_number(row), f"{row.n:,}", row.backbone) for row in rows],
    )

    def show(console: Console) -> None:
        numbers(console)
        for row in rows:
            if row.note:
                console.print(f"{row.metric}: {row.note}", markup=False)

    return show
