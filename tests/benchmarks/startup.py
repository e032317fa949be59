"""Wall time of `harness --help` and `harness list`, beside the interpreter's own bare start.

Each is a process of its own, started in turn; the figure is the median. Target: 0.5 seconds for both commands;
the exit status is 1 when one takes longer.

    python -m tests.benchmarks.startup

Last figures:
    AMD EPYC, Python 3.11: python -c pass 0.022 s, harness --help 0.052 s, harness list 0.121 s.
"""

from __future__ import annotations

import contextlib
import platform
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tests.benchmarks import timing
from tests.benchmarks.report import Report, arguments

TARGET = 0.5  # seconds
REPOSITORY = Path(__file__).parents[2]
BARE = "python -c pass"


def commands() -> dict[str, list[str]]:
    """Commands to start, by their name in the table."""
    script = Path(sys.executable).with_name("harness")
    harness = [str(script)] if script.is_file() else [sys.executable, "-m", "harness"]
    return {
        BARE: [sys.executable, "-c", "pass"],
        "harness --help": [*harness, "--help"],
        "harness list": [*harness, "list"],
    }


def measure(*, rounds: int) -> Report:
    """Time all commands; the first, untimed round fills the disk cache and writes the byte code."""
    starts = {name: partial(_run, command) for name, command in commands().items()}
    seconds = timing.interleaved(starts, rounds=rounds, warmup=1)
    rows = [
        {
            "command": name,
            "seconds": median,
            "fastest": min(seconds[name]),
            "slowest": max(seconds[name]),
            "target": None if name == BARE else TARGET,
        }
        for name, median in timing.medians(seconds).items()
    ]
    return Report(
        title=f"Start, median of {rounds}: {platform.machine()}, Python {platform.python_version()}",
        rows=rows,
        missed=missed(rows),
    )


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, cwd=REPOSITORY)


def missed(rows: Sequence[dict]) -> list[str]:
    """The commands that take longer than their target."""
    return [
        f"{row['command']}: {row['seconds']:.2f} s, target {row['target']} s"
        for row in rows
        if row["target"] is not None and row["seconds"] > row["target"]
    ]


def main(argv: Sequence[str] | None = None) -> int:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args(argv)
    with contextlib.redirect_stdout(sys.stderr):
        report = measure(rounds=args.rounds)
    return report.show(args.json)


if __name__ == "__main__":
    sys.exit(main())
