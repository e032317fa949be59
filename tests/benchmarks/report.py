"""Output of a benchmark: one table for people, or the same as JSON, and an exit status."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

WIDTH = 132  # columns where there is no terminal

Value = str | int | float | None


@dataclass(frozen=True, kw_only=True)
class Report:
    """The rows of a table; all have the same keys, in the order of the columns."""

    title: str
    rows: Sequence[dict[str, Value]]
    notes: Sequence[str] = field(default_factory=tuple)
    missed: Sequence[str] = field(default_factory=tuple)  # targets that were missed or could not be judged

    def show(self, target: str | None) -> int:
        """Print the table, or the JSON; returns the exit status: 1 when a target was missed.

        Args:
            target: what `--json` was given: None for the table, "-" for JSON on standard output, else a file
                for the JSON, besides the table.
        """
        text = json.dumps(asdict(self), indent=1, ensure_ascii=False)
        if target == "-":
            print(text)
        else:
            self._print()
        if target not in (None, "-"):
            Path(target).write_text(text + "\n", encoding="utf-8")
        return 1 if self.missed else 0

    def _print(self) -> None:
        console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
        table = Table(title=self.title, title_justify="left")
        for name in self.rows[0] if self.rows else ():
            numbers = all(not isinstance(row[name], str) for row in self.rows)
            table.add_column(name, justify="right" if numbers else "left")
        for row in self.rows:
            table.add_row(*[_text(value) for value in row.values()])
        console.print(table)
        for line in (*self.notes, *[f"Missed: {line}" for line in self.missed]):
            console.print(line, markup=False)


def _text(value: Value) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def arguments(description: str) -> argparse.ArgumentParser:
    """A parser with the option that all benchmarks have."""
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="FILE", help="JSON instead of the table; with FILE, besides it"
    )
    return parser


def use_threads(count: int | None) -> None:
    """Let PyTorch use that many CPU threads; None leaves its own choice."""
    if count:
        torch.set_num_threads(count)


def surroundings(device: torch.device) -> str:
    """Description of the machine, for a title."""
    from harness.device import describe

    threads = "" if device.type == "cuda" else f", {torch.get_num_threads()} thread(s)"
    return f"{describe(device)}{threads}, torch {torch.__version__}"
