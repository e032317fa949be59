from __future__ import annotations

import argparse
from dataclasses import asdict

from harness.commands import options
from harness.output import CommandOutput, rows_table

HELP = "fine-tune, predict and score; the same command again goes on where it stopped"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tasks", nargs="+", metavar="TASK", help="see `harness list tasks`, or a .py file")
    options.add_experiment(parser)
    parser.add_argument("--dataset", metavar="NAME", help=options.DATASET)
    parser.add_argument("--weights", metavar="FILE", help="pretrained weights, .safetensors or official .pth")
    parser.add_argument(
        "--log", action="append", default=[], choices=("tensorboard", "wandb"), help="besides the local log files"
    )
    parser.add_argument(
        "--validate", type=int, metavar="N",
        help="score the validation split every N epochs (steps, where the recipe counts steps): validation.csv",
    )  # fmt: skip
    parser.add_argument("--validate-limit", type=int, metavar="M", help="on M samples of it, evenly spaced")
    parser.add_argument(
        "--keep", choices=("last", "best"), help="weights to predict with: the last, or those that validated best"
    )
    options.add_show(parser)


def run(args: argparse.Namespace) -> CommandOutput:
    from harness import experiment

    given = options.experiment(args) | {"dataset": args.dataset}
    validation = {"validate": args.validate, "validate_limit": args.validate_limit, "keep": args.keep}
    given["changes"] = given["changes"] + [f"{name}={value}" for name, value in validation.items() if value is not None]
    experiment.require(args.tasks, weights=args.weights, **given)
    from harness import api  # imports PyTorch

    rows = api.run(args.tasks, weights=args.weights, log=args.log, show=args.show, **given)
    return CommandOutput([asdict(row) for row in rows], rows_table(f"Results, also in {args.out}/{api.RESULTS}", rows))
