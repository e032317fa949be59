from __future__ import annotations

import argparse
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands import options
from harness.output import CommandOutput, rows_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from tasks.adapter import TaskAdapter

HELP = "predict splits with fine-tuned weights; an interrupted prediction goes on"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", metavar="TASK")
    options.add_experiment(parser)
    parser.add_argument("--weights", required=True, metavar="FILE", help="fine-tuned weights, backbone and head")
    parser.add_argument("--score", action="store_true", help="score the predictions too, into OUT/results.csv")
    parser.add_argument("--dataset", metavar="NAME", help=options.DATASET)
    options.add_show(parser)


def run(args: argparse.Namespace) -> CommandOutput:
    from harness import calls

    chosen = options.experiment(args) | {"weights": args.weights, "show": args.show, "dataset": args.dataset}
    calls.require([args.task], **chosen)
    if args.score:
        calls.require_truth(args.task, args.split)
    from harness import api, pipeline  # import PyTorch

    experiment = api.planned_prediction(args.task, **chosen)
    results = Path(args.out) / api.RESULTS
    found, rows = pipeline.predict(experiment, show=args.show, results=results if args.score else None)

    def show(console: Console) -> None:
        for path in found.values():
            console.print(f"Predictions: {path}", markup=False, soft_wrap=True)
        for command in _next(args, experiment.adapter, found):
            console.print(f"Next: {command}", markup=False, soft_wrap=True)
        if args.score:
            rows_table(f"Scores, also in {results}", rows)(console)

    data = {"predictions": [str(path) for path in found.values()] if len(found) > 1 else str(*found.values())}
    return CommandOutput(data | ({"rows": [asdict(row) for row in rows]} if args.score else {}), show)


def _next(args: argparse.Namespace, adapter: TaskAdapter, found: Mapping[str, Path]) -> list[str]:
    """The commands that use predictions: `score` unless they are scored already, `submit` for a server's splits."""
    from harness.messages import program

    commands = []
    for split, path in found.items():
        data = [args.task, str(path), "--data", args.data, "--split", split]
        limit = ["--limit", str(args.limit)] if args.limit else []
        if not adapter.split(split).labels:
            commands.append([*program(), "submit", *data])
        elif not args.score:
            commands.append([*program(), "score", *data, *limit])
    return [shlex.join(command) for command in commands]
