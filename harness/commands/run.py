from __future__ import annotations

import argparse
import gc
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands import options
from harness.messages import error_text
from harness.output import CommandOutput, rows_table

if TYPE_CHECKING:
    from rich.console import Console

    from harness.experiment import Experiment
    from leaderboards.rows import ResultRow

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
    from harness import calls

    given = options.experiment(args) | {"dataset": args.dataset}
    validation = {"validate": args.validate, "validate_limit": args.validate_limit, "keep": args.keep}
    given["changes"] = given["changes"] + [f"{name}={value}" for name, value in validation.items() if value is not None]
    given |= {"weights": args.weights, "log": args.log, "show": args.show}
    calls.require(args.tasks, **given)
    from harness import api  # imports PyTorch

    rows, refused = _run_each(api.planned(args.tasks, **given), args)
    results = rows_table(f"Results, also in {args.out}/{api.RESULTS}", rows)

    def show(console: Console) -> None:
        results(console)
        for task, reason in refused.items():
            console.print(f"Not done: {task}: {reason}", markup=False, soft_wrap=True)

    data = [asdict(row) for row in rows]
    failed = {"error": f"Not done: {', '.join(refused)}", "refused": refused, "rows": data}
    return CommandOutput(failed if refused else data, show, ok=not refused)


def _run_each(experiments: list[Experiment], args: argparse.Namespace) -> tuple[list[ResultRow], dict[str, str]]:
    """Rows of all tasks, and why some of them have none: one that fails does not end the others.

    With several processes it does, since those that did not fail may be waiting for this one.
    """
    from harness import api, distributed, pipeline
    from harness.progress import note

    rows, refused = [], {}
    for each in experiments:
        task = each.adapter.name
        try:
            rows += pipeline.run(each, results=Path(args.out) / api.RESULTS, log=args.log, show=args.show)
        except Exception as error:
            if len(experiments) == 1:
                raise
            if args.debug:
                traceback.print_exc()
            refused[task] = error_text(error, args, task=task)
            note(f"harness: {task}: {refused[task]}")
        if refused and distributed.world_size() > 1:
            break
        gc.collect()  # the memory of what failed
    return rows, refused
