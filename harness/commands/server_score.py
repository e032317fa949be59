from __future__ import annotations

import argparse
from dataclasses import asdict

from harness.output import CommandOutput, rows_table

HELP = "enter a score that a test server gave to a submission"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", metavar="TASK")
    parser.add_argument("split", metavar="SPLIT", help="one whose truth is not public")
    parser.add_argument("metric", metavar="METRIC", help="see `harness list tasks --json`")
    parser.add_argument("value", metavar="VALUE", type=float, help="as the server shows it, in percent or points")
    parser.add_argument("--predictions", required=True, metavar="FILE", help="what the submission was made from")
    parser.add_argument("--date", required=True, metavar="YYYY-MM-DD", help="when the server scored it")
    parser.add_argument(
        "--receipt", required=True, help="the submission's name or number at the server, or its address"
    )
    parser.add_argument("--results", default="runs/results.csv", metavar="FILE", help="default: runs/results.csv")


def run(args: argparse.Namespace) -> CommandOutput:
    from harness import server_scores

    row = server_scores.enter(
        args.task,
        args.split,
        args.metric,
        args.value,
        predictions=args.predictions,
        date=args.date,
        receipt=args.receipt,
        results=args.results,
    )
    return CommandOutput(asdict(row), rows_table(f"Entered into {args.results}", [row]))
