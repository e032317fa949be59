"""Output of a command: data for programs, a rendering for people."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from leaderboards.rows import UNNAMED

if TYPE_CHECKING:
    from rich.console import Console

    from leaderboards.rows import ResultRow

NO_BREAK = "\u00a0"  # a space that keeps a number and its unit on one line


@dataclass(frozen=True)
class CommandOutput:
    """Output of a command.

    data: JSON-able. show: prints it for people. ok: everything asked for was done.
    """

    data: Any
    show: Callable[[Console], None]
    ok: bool = True


def plain(text: str) -> Callable[[Console], None]:
    """Render a text as it is, without line breaks and markup."""

    def show(console: Console) -> None:
        console.file.write(text)

    return show


def table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, bold: Container[tuple[int, int]] = ()
) -> Callable[[Console], None]:
    """Render a table that fits the console; cells wrap between words as long as that is enough.

    Args:
        bold: rows and columns of the cells that are emphasized.
    """

    def show(console: Console) -> None:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        drawn = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
        for column, width in zip(columns, _widths([columns, *rows], console.width), strict=True):
            drawn.add_column(column, overflow="fold", width=width)
        for line, row in enumerate(rows):
            drawn.add_row(*(Text(text, "bold") if (line, at) in bold else text for at, text in enumerate(row)))
        console.print(drawn, markup=False)

    return show


def _widths(rows: Sequence[Sequence[str]], available: int) -> list[int]:
    """Widths of columns in characters; the widest shrinks first, to its longest word unless all are that narrow."""
    from rich.cells import cell_len

    cells = list(zip(*rows, strict=True))
    widths = [max(map(cell_len, column)) for column in cells]
    words = [_longest_word(column) for column in cells]
    available -= _between(len(widths))
    for floors in (words, [1] * len(widths)):
        while sum(widths) > available and any(width > floor for width, floor in zip(widths, floors, strict=True)):
            _, widest = max((width, n) for n, width in enumerate(widths) if width > floors[n])
            widths[widest] -= 1
    return widths


def side_by_side(first: Sequence[str], others: Sequence[Sequence[str]], width: int) -> list[Sequence[Sequence[str]]]:
    """Divide columns among tables that each begin with the column `first`, so that no word in them is broken."""
    tables: list[list[Sequence[str]]] = [[]]
    for column in others:
        words = [_longest_word(cells) for cells in (first, *tables[-1], column)]
        if tables[-1] and sum(words) + _between(len(words)) > width:
            tables.append([])
        tables[-1].append(column)
    return tables


def _longest_word(cells: Sequence[str]) -> int:
    from rich.cells import cell_len

    return max((cell_len(word) for cell in cells for word in cell.split(" ")), default=0)


def _between(columns: int) -> int:
    """Number of characters that rich puts before, between and after columns."""
    return 2 * columns


def _number(row: ResultRow) -> tuple[str, str]:
    """Format a value and its interval; a dash for a value that could not be computed."""
    if row.value is None:
        return "–", ""
    unit = "%" if row.unit == "percent" else row.unit
    if row.low is None:  # a test server's
        return f"{row.value:.3f} {unit}".replace(" ", NO_BREAK), ""
    return f"{row.value:.3f} {unit}".replace(" ", NO_BREAK), f"{row.low:.3f} – {row.high:.3f}".replace(" ", NO_BREAK)


def rows_table(title: str, rows: Sequence[ResultRow]) -> Callable[[Console], None]:
    """Render result rows as a table of values and intervals; below it, reasons for values that are absent.

    Where the console is too narrow for one table, there is one for each task, split and backbone.
    """
    columns = ("task", "split", "metric", "value", "95% interval", "n", "backbone")
    cells = [(row.task, row.split, row.metric, *_number(row), f"{row.n:,}", row.backbone) for row in rows]

    def show(console: Console) -> None:
        natural = _widths([columns, *cells], 10**9)
        if sum(natural) + _between(len(columns)) <= console.width:
            table(title, columns, cells)(console)
        else:
            console.print(title, style="table.title", markup=False)
            for (task, split, backbone), group in _grouped(cells).items():
                table(" ".join(filter(None, (task, split, backbone))), columns[2:6], group)(console)
        for split in dict.fromkeys((row.task, row.split, row.dataset, row.subset) for row in rows):
            _print_part(console, *split)
        for row in rows:
            if row.note:
                console.print(f"{row.metric}: {row.note}", markup=False)

    return show


def _print_part(console: Console, task: str, split: str, dataset: str, subset: str) -> None:
    """Print the data set of a table's rows where it is not the whole benchmark."""
    part = f", {subset} samples" if subset else ""
    if part or dataset.startswith(UNNAMED):
        console.print(f"{task} {split}: {dataset}{part}", markup=False)


def _grouped(cells: Sequence[Sequence[str]]) -> dict[tuple[str, str, str], list[Sequence[str]]]:
    """The cells of a table of rows from `metric` to `n`, by task, split and backbone."""
    groups: dict[tuple[str, str, str], list[Sequence[str]]] = {}
    for task, split, *numbers, backbone in cells:
        groups.setdefault((task, split, backbone), []).append(numbers)
    return groups
