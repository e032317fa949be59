from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from harness.commands import options
from harness.output import CommandOutput

if TYPE_CHECKING:
    from rich.console import Console

HELP = "predict splits with fine-tuned weights; an interrupted prediction goes on"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", metavar="TASK")
    options.add_experiment(parser)
    parser.add_argument("--weights", required=True, metavar="FILE", help="fine-tuned weights, backbone and head")
    options.add_show(parser)


def run(args: argparse.Namespace) -> CommandOutput:
    from harness import calls

    chosen = options.experiment(args)
    calls.require([args.task], weights=args.weights, show=args.show, **chosen)
    from harness import api  # imports PyTorch

    several = len(chosen["split"] or ()) > 1
    if not several:
        chosen["split"] = chosen["split"] and chosen["split"][0]
    found = api.predict(args.task, weights=args.weights, show=args.show, **chosen)
    paths = found if several else [found]

    def show(console: Console) -> None:
        for path in paths:
            console.print(f"Predictions: {path}", markup=False)

    return CommandOutput({"predictions": [str(path) for path in paths] if several else str(found)}, show)
