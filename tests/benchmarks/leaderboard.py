"""Processor time of `harness table` over a leaderboard of 100,000 rows, beside pandas' reading of the same file.

Each is a process of its own, started in turn; the figure is the median. The rows are those of as many models, none of
which can stand beside the paper's, so all of them go through every rule. Target: 3 seconds; the exit status is 1 when
it takes longer.

    python -m tests.benchmarks.leaderboard

Last figures:
    AMD EPYC, a core that others use too: pandas.read_csv 0.66 s, harness table overview 2.35 s (3.6 times).
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from leaderboards.rows import write
from tests.benchmarks import child, timing
from tests.benchmarks.report import Report, arguments
from tests.support.rows import of_run

TARGET = 3.0  # seconds
TABLE = "harness table overview"


def results(path: Path, *, rows: int) -> Path:
    """A results file of different models."""
    write(path, [of_run(f"run{at}", value=60 + at % 300 / 10, backbone=f"model-{at}", seed=at) for at in range(rows)])
    return path


def measure(path: Path, *, rows: int, rounds: int) -> Report:
    """Time both; the first, untimed round writes the byte code."""
    commands = {
        "pandas.read_csv": [sys.executable, "-c", f"import pandas; pandas.read_csv({str(path)!r})"],
        TABLE: [sys.executable, "-m", "harness", "table", "overview", "--results", str(path)],
    }
    taken = {name: [child.run(command).processor for _ in range(rounds + 1)][1:] for name, command in commands.items()}
    found = [{"command": name, "seconds": seconds} for name, seconds in timing.medians(taken).items()]
    return Report(
        title=f"A leaderboard of {rows:,} rows, median of {rounds}",
        rows=found,
        missed=[
            f"{row['command']}: {row['seconds']:.2f} s, target {TARGET} s"
            for row in found
            if row["command"] == TABLE and row["seconds"] > TARGET
        ],
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        path = results(Path(folder, "results.csv"), rows=args.rows)
        return measure(path, rows=args.rows, rounds=args.rounds).show(args.json)


if __name__ == "__main__":
    sys.exit(main())
