from __future__ import annotations

import argparse

from harness.answer import Answer
from harness.commands import options

HELP = "predict a split with fine-tuned weights; an interrupted prediction goes on"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", metavar="TASK")
    options.add_experiment(parser)
    parser.add_argument("--weights", required=True, metavar="FILE", help="fine-tuned weights, backbone and head")


def run(args: argparse.Namespace) -> Answer:
    from harness import api

    path = api.predict(args.task, weights=args.weights, **options.experiment(args))
    return Answer({"predictions": str(path)}, lambda console: console.print(f"Predictions: {path}", markup=False))
