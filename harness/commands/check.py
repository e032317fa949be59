from __future__ import annotations

import argparse

from harness.output import CommandOutput, table

HELP = "say what is missing or wrong in a data folder, before any training"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tasks", nargs="+", metavar="TASK")
    parser.add_argument("--data", required=True, metavar="ROOT")
    parser.add_argument("--decode", action="store_true", help="open every image too")


def run(args: argparse.Namespace) -> CommandOutput:
    from harness import api

    found = api.check(args.tasks, data=args.data, decode=args.decode)
    rows = [(task, "ok" if finding.ok else "WRONG", finding.text) for task, all_ in found.items() for finding in all_]
    return CommandOutput(
        {task: [finding._asdict() for finding in all_] for task, all_ in found.items()},
        table(f"Data in {args.data}", ("task", "", "finding"), rows),
        ok=all(finding.ok for all_ in found.values() for finding in all_),
    )
