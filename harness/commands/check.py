from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from harness.output import CommandOutput, table

if TYPE_CHECKING:
    from tasks.adapter import Finding

HELP = "say what is missing or wrong in a data folder, before any training"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tasks", nargs="+", metavar="TASK")
    parser.add_argument("--data", required=True, metavar="ROOT")
    parser.add_argument("--split", action="append", help="split to look at (default: all); again for more of them")
    parser.add_argument("--decode", action="store_true", help="open every image too")


def run(args: argparse.Namespace) -> CommandOutput:
    from harness.checks import check

    found = check(args.tasks, data=args.data, split=args.split, decode=args.decode)
    rows = [(task, _mark(finding), finding.text) for task, all_ in found.items() for finding in all_]
    return CommandOutput(
        {task: [finding._asdict() for finding in all_] for task, all_ in found.items()},
        table(f"Data in {args.data}", ("task", "", "finding"), rows),
        ok=all(finding.ok for all_ in found.values() for finding in all_),
    )


def _mark(finding: Finding) -> str:
    return "–" if finding.absent else "ok" if finding.ok else "FAIL"
