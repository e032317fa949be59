from __future__ import annotations

import argparse

from harness.answer import Answer

HELP = "write the file that a benchmark's test server takes, and validate it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", metavar="TASK")
    parser.add_argument("predictions", metavar="PREDICTIONS", help="as `harness predict` writes them")
    parser.add_argument("--data", required=True, metavar="ROOT")
    parser.add_argument("--split", required=True, help="which split they are of")
    parser.add_argument("--name", default="multiway", help="of the method, for servers that want it in the file's name")
    parser.add_argument("--out", metavar="DIR", help="folder for the file (default: beside the predictions)")


def run(args: argparse.Namespace) -> Answer:
    from harness import api

    path = api.submit(args.task, args.predictions, data=args.data, split=args.split, name=args.name, out=args.out)
    return Answer({"submission": str(path)}, lambda console: console.print(f"Submission: {path}", markup=False))
