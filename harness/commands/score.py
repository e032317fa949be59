from __future__ import annotations

import argparse
from dataclasses import asdict

from harness.answer import Answer, rows_table

HELP = "score a predictions file against the annotations; needs no model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", metavar="TASK")
    parser.add_argument(
        "predictions", nargs="+", metavar="PREDICTIONS", help="of `harness predict`, or in the benchmark's own form"
    )
    parser.add_argument("--data", required=True, metavar="ROOT")
    parser.add_argument(
        "--split", action="append", help="which split they are of (default: the task's); one for each file"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="as in the prediction")
    parser.add_argument("--results", metavar="FILE", help="a results.csv to add the rows to")
    parser.add_argument("--classes", metavar="FILE", help="a .csv for the metrics of single classes")


def run(args: argparse.Namespace) -> Answer:
    from harness import api

    rows = api.score(
        args.task,
        args.predictions,
        data=args.data,
        split=args.split,
        limit=args.limit,
        results=args.results,
        classes=args.classes,
    )
    return Answer([asdict(row) for row in rows], rows_table(f"Scores of {', '.join(args.predictions)}", rows))
