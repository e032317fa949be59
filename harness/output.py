"""Output of a command: data for programs, a rendering for people."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from leaderboards.rows import UNNAMED

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from leaderboards.rows import ResultRow

NO_BREAK = "\u00a0"  # a space that keeps a number and its unit on one line


@dataclass(frozen=True)
class CommandOutput:
    """Output of a command.

    data: JSON-able; dataclasses are written as their fields. show: prints it for people. ok: everything asked for was
    done.
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
    """Render a table that fits the console.

    Cells wrap between words, where that is not enough also at hyphens. Where that is not enough either, the columns are
    divided among tables that each begin with the first one. A word is broken only when it is wider than the console.

    Args:
        bold: rows and columns of the cells that are emphasized.
    """
    cells = list(zip(columns, *rows, strict=True))  # by column, each with its title

    def show(console: Console) -> None:
        for indices in _divided(cells, console.width):
            console.print(_drawn(title, [cells[at] for at in indices], indices, bold, console.width), markup=False)

    return show


def _drawn(
    title: str, cells: Sequence[Sequence[str]], indices: Sequence[int], bold: Container[tuple[int, int]], available: int
) -> Table:
    """A table of columns that stand at `indices` of the whole one."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    drawn = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    widths, hyphens = _widths(cells, available)
    wrapped = [[_wrap(cell, width) if hyphens else cell for cell in c] for c, width in zip(cells, widths, strict=True)]
    for (head, *_), width in zip(wrapped, widths, strict=True):
        drawn.add_column(head, overflow="fold", width=width)
    for line, row in enumerate(zip(*(column[1:] for column in wrapped), strict=True)):
        drawn.add_row(*(Text(c, "bold") if (line, at) in bold else c for at, c in zip(indices, row, strict=True)))
    return drawn


def _divided(cells: Sequence[Sequence[str]], available: int) -> list[list[int]]:
    """Indices of the columns of each table; one table where dividing them would not spare a word either."""
    if _fits(cells, available):
        return [list(range(len(cells)))]
    tables: list[list[int]] = []
    for index in range(1, len(cells)):
        if not tables or not _fits([cells[at] for at in (*tables[-1], index)], available):
            tables.append([0])
        tables[-1].append(index)
    whole = all(_fits([cells[at] for at in indices], available) for indices in tables)
    return tables if whole else [list(range(len(cells)))]


def _fits(cells: Sequence[Sequence[str]], available: int) -> bool:
    """Check that columns fit side by side when their cells wrap between words and at hyphens."""
    return sum(_longest(column, _at_hyphens) for column in cells) + _between(len(cells)) <= available


def _widths(cells: Sequence[Sequence[str]], available: int) -> tuple[list[int], bool]:
    """Widths of columns in characters, and whether cells have to wrap at hyphens.

    The widest column shrinks first, to its longest word unless all are that narrow.
    """
    from rich.cells import cell_len

    widths = [max(map(cell_len, column)) for column in cells]
    available -= _between(len(widths))
    words, parts = ([_longest(column, split) for column in cells] for split in (_at_spaces, _at_hyphens))
    for floors in (words, parts, [1] * len(widths)):
        while sum(widths) > available and any(width > floor for width, floor in zip(widths, floors, strict=True)):
            _, widest = max((width, n) for n, width in enumerate(widths) if width > floors[n])
            widths[widest] -= 1
    return widths, sum(words) > available


def _wrap(text: str, width: int) -> str:
    """A text with line breaks between words and after hyphens; a word without a hyphen is left whole."""
    import textwrap

    return "\n".join(textwrap.wrap(text, width, break_long_words=False)) or text


def _longest(cells: Sequence[str], split: Callable[[str], Iterable[str]]) -> int:
    """Width of the widest piece of all cells."""
    from rich.cells import cell_len

    return max((cell_len(piece) for cell in cells for piece in split(cell)), default=0)


def _at_spaces(text: str) -> list[str]:
    return text.split(" ")


def _at_hyphens(text: str) -> list[str]:
    return _wrap(text, 1).split("\n")


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
        if _natural_width([columns, *cells]) <= console.width:
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


def _natural_width(rows: Sequence[Sequence[str]]) -> int:
    """Width of a table in which no cell wraps."""
    from rich.cells import cell_len

    return sum(max(map(cell_len, column)) for column in zip(*rows, strict=True)) + _between(len(rows[0]))


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
