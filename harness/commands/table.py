from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from harness.output import CommandOutput, plain
from harness.output import table as drawn_table

if TYPE_CHECKING:
    from rich.console import Console

LATEST = 50  # results that stand apart; a terminal is not the place for thousands
HELP = "print a table of published numbers, with results beside them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="see `harness list tables`, or a .toml or .json file of your own")
    parser.add_argument(
        "--results", nargs="+", default=[], metavar="PATH", help="results files, and folders of them, to put beside"
    )
    parser.add_argument("--format", choices=("terminal", "markdown", "csv", "html", "latex"), default="terminal")


def run(args: argparse.Namespace) -> CommandOutput:
    from harness.benchmarks import facts
    from harness.progress import note
    from leaderboards import board_texts, published, tables

    spec = tables.load(args.name)
    frame, problems = None, ()
    if args.results:
        from leaderboards import comparable, results

        found = results.gather(args.results, columns=comparable.COLUMNS)
        for text in (*found.problems, *found.notices):
            note(text)
        frame, problems = found.frame, found.problems
    from leaderboards import board

    filled = board.fill(spec, published.rows(), frame, facts())
    if args.format != "terminal":
        return CommandOutput(filled, plain(board_texts.WRITERS[args.format](filled)), ok=not problems)

    def show(console: Console) -> None:
        bold = {(line, at) for line, row in enumerate(filled.rows) for at, cell in enumerate(row.cells) if cell.best}
        drawn_table(filled.title, filled.columns, board_texts.plain_cells(filled), bold=bold)(console)
        for text in board_texts.legend(filled):
            console.print(text, markup=False)
        if filled.apart:
            console.print()
            title = "Results that cannot stand in the table"
            drawn_table(title, board_texts.APART, board_texts.apart_cells(filled.apart[-LATEST:]))(console)
            if (older := len(filled.apart) - LATEST) > 0:
                console.print(f"{older:,} older ones are left out here; --format csv has them.", markup=False)

    return CommandOutput(filled, show, ok=not problems)
