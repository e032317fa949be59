from __future__ import annotations

import argparse
from dataclasses import asdict

from harness.answer import Answer, rows_table
from harness.commands import options

HELP = "fine-tune, predict and score; the same command again goes on where it stopped"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tasks", nargs="+", metavar="TASK", help="see `harness list tasks`, or a .py file")
    options.add_experiment(parser)
    parser.add_argument("--weights", metavar="FILE", help="pretrained weights, .safetensors or official .pth")
    parser.add_argument(
        "--log", action="append", default=[], choices=("tensorboard", "wandb"), help="besides the local log files"
    )
    parser.add_argument(
        "--show", type=int, default=0, metavar="N", help="write pictures of N predictions, for tasks that have them"
    )


def run(args: argparse.Namespace) -> Answer:
    from harness import api

    rows = api.run(args.tasks, weights=args.weights, log=args.log, show=args.show, **options.experiment(args))
    return Answer([asdict(row) for row in rows], rows_table(f"Results, also in {args.out}/{api.RESULTS}", rows))
