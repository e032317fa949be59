from __future__ import annotations

import argparse
import gc
import traceback
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.commands import options
from harness.messages import error_text
from harness.output import CommandOutput, rows_table

if TYPE_CHECKING:
    from rich.console import Console

    from harness.experiment import Experiment
    from leaderboards.rows import ResultRow

LOGS = "logs"  # in --out: what runs side by side print
HELP = "fine-tune, predict and score; the same command again goes on where it stopped"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tasks", nargs="+", metavar="TASK", help="see `harness list tasks`, or a .py file")
    options.add_experiment(parser)
    parser.add_argument("--dataset", metavar="NAME", help=options.DATASET)
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="pretrained weights, .safetensors or official .pth; none: random ones (default: those bundled, if any)",
    )
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
    parser.add_argument(
        "--jobs", type=_jobs, default=1, metavar="N",
        help="runs at a time, each on its GPU or its share of the cores, with a log file in OUT/logs; auto: one for "
        "each GPU, or each core (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--seeds", metavar="0,1,2", help="a run for each seed; their mean and standard deviation (instead of --seed)"
    )


def run(args: argparse.Namespace) -> CommandOutput:
    from harness import calls, seeds

    chosen = _seeds(args)
    given = _given(args)
    calls.require(args.tasks, **given)
    from harness import api  # imports PyTorch
    from leaderboards.spread import over_seeds

    experiments = [each for seed in chosen for each in api.planned(args.tasks, **_of_seed(given, seed, chosen))]
    if args.seeds:
        _require_training(experiments)
    rows, refused = _run_each(experiments, args) if args.jobs == 1 else _run_side_by_side(experiments, args, chosen)
    several = len(args.tasks) > 1
    primary = {each.adapter.name: each.adapter.primary.name for each in experiments}
    shown = [row for row in rows if row.metric == primary[row.task]] if several else rows
    title = f"Results, {'the primary metric of each task; all are' if several else 'also'} in {args.out}/{api.RESULTS}"
    results = rows_table(title, shown)
    spreads = over_seeds(rows) if args.seeds else []

    def show(console: Console) -> None:
        results(console)
        if args.seeds:
            seeds.seeds_table(spreads)(console)
        for task, reason in refused.items():
            console.print(f"Not done: {task}: {reason}", markup=False, soft_wrap=True)

    data = {"rows": [asdict(row) for row in rows]}
    if args.seeds:
        data["seeds"] = [asdict(spread) for spread in spreads]
    failed = {"error": f"Not done: {', '.join(refused)}", "refused": refused}
    if refused or args.seeds:
        return CommandOutput((failed if refused else {}) | data, show, ok=not refused)
    return CommandOutput(data["rows"], show)


def _given(args: argparse.Namespace) -> dict[str, Any]:
    """The options as keywords of `harness.api.planned`."""
    given = options.experiment(args) | {"dataset": args.dataset}
    validation = {"validate": args.validate, "validate_limit": args.validate_limit, "keep": args.keep}
    given["changes"] = given["changes"] + [f"{name}={value}" for name, value in validation.items() if value is not None]
    return given | {"weights": args.weights, "log": args.log, "show": args.show}


def _jobs(text: str) -> int | None:
    """A number of runs, None for as many as the machine has parts for."""
    return None if text == "auto" else int(text)


def _seeds(args: argparse.Namespace) -> tuple[int, ...]:
    from backbones.errors import UsageError
    from harness import seeds

    if args.seeds is None:
        return (args.seed,)
    if args.seed:
        raise UsageError(f"--seed {args.seed} and --seeds {args.seeds} are two answers to one question. Give one.")
    return seeds.parsed(args.seeds)


def _of_seed(given: dict[str, Any], seed: int, seeds: tuple[int, ...]) -> dict[str, Any]:
    """The options of a run of one of the seeds; a folder's name that was given gets the seed behind it."""
    named = f"{given['name']}-seed{seed}" if given["name"] and len(seeds) > 1 else given["name"]
    return given | {"seed": seed, "name": named}


def _require_training(experiments: list[Experiment]) -> None:
    from backbones.errors import UsageError

    for each in experiments:
        if not each.recipe.trains:
            raise UsageError(
                f"Recipe {each.recipe.name} does not fine-tune: every seed gives {each.adapter.name} the same number. "
                "Leave out --seeds."
            )


def _name(experiment: Experiment, args: argparse.Namespace) -> str:
    task = experiment.adapter.name
    return f"{task} with seed {experiment.seed}" if args.seeds else task


def _run_side_by_side(
    experiments: list[Experiment], args: argparse.Namespace, seeds: tuple[int, ...]
) -> tuple[list[ResultRow], dict[str, str]]:
    """Rows of all runs, several made at a time, and why some of them have none."""
    from backbones.errors import UsageError
    from harness import distributed, hardware, side_by_side, slots

    if distributed.world_size() > 1:
        raise UsageError(
            "--jobs makes several runs at a time, torchrun one run in several processes. Give one of them."
        )
    machine = hardware.found()
    places = slots.slots(machine, slots.most_jobs(machine) if args.jobs is None else args.jobs)
    calls, names = [], [task for _ in seeds for task in args.tasks]
    for given, each in zip(names, experiments, strict=True):
        own = argparse.Namespace(**_of_seed(vars(args), each.seed, seeds) | {"tasks": [given]})
        log = Path(args.out) / LOGS / f"{each.adapter.name}-{each.folder.name}.log"
        refusal = partial(error_text, args=args, task=each.adapter.name)
        calls.append(side_by_side.Call(_name(each, args), log, partial(_run_alone, own), refusal))
    answers = {call.name: answer for call, answer in side_by_side.shown(calls, places)}
    # In the order that was asked for, not in which they ended.
    found = {call.name: answers[call.name] for call in calls}
    rows = [row for answer in found.values() if not isinstance(answer, str) for row in answer]
    return rows, {name: answer for name, answer in found.items() if isinstance(answer, str)}


def _run_alone(args: argparse.Namespace) -> list[ResultRow]:
    """Make the one run of `args`, in a process that is there for it."""
    from harness import api, pipeline

    (each,) = api.planned(args.tasks, **_given(args))
    return pipeline.run(each, results=Path(args.out) / api.RESULTS, log=args.log, show=args.show)


def _run_each(experiments: list[Experiment], args: argparse.Namespace) -> tuple[list[ResultRow], dict[str, str]]:
    """Rows of all runs, and why some of them have none: one that fails does not end the others.

    With several processes it does, since those that did not fail may be waiting for this one.
    """
    from harness import api, distributed, pipeline
    from harness.progress import note

    rows, refused = [], {}
    for each in experiments:
        task, name = each.adapter.name, _name(each, args)
        try:
            rows += pipeline.run(each, results=Path(args.out) / api.RESULTS, log=args.log, show=args.show)
        except Exception as error:
            if len(experiments) == 1:
                raise
            if args.debug:
                traceback.print_exc()
            refused[name] = error_text(error, args, task=task)
            note(f"harness: {name}: {refused[name]}")
        if refused and distributed.world_size() > 1:
            break
        gc.collect()  # the memory of what failed
    return rows, refused
