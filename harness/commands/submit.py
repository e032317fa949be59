from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from harness.output import CommandOutput

if TYPE_CHECKING:
    from rich.console import Console

HELP = "write the files that a benchmark's test server takes, and validate them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", metavar="TASK")
    parser.add_argument("predictions", metavar="PREDICTIONS", help="as `harness predict` writes them")
    parser.add_argument("--data", required=True, metavar="ROOT")
    parser.add_argument("--split", required=True, help="which split they are of")
    parser.add_argument("--name", default="multiway", help="of the method, for servers that want it in the file's name")
    parser.add_argument("--out", metavar="DIR", help="folder for the files (default: beside the predictions)")


def run(args: argparse.Namespace) -> CommandOutput:
    from harness import evaluation

    paths = evaluation.submit(
        args.task, args.predictions, data=args.data, split=args.split, name=args.name, out=args.out
    )

    def show(console: Console) -> None:
        for path in paths:
            console.print(f"Submission: {path}", markup=False)

    return CommandOutput({"submissions": [str(path) for path in paths]}, show)
