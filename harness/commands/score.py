from __future__ import annotations

import argparse
from dataclasses import asdict

from harness.commands.options import DATASET
from harness.output import CommandOutput, rows_table

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
    parser.add_argument(
        "--replicates", metavar="FILE", help="an .npz for each metric at the bootstrap draws, to compare runs with"
    )
    parser.add_argument("--dataset", metavar="NAME", help=DATASET)
    parser.add_argument(
        "--subset", action="store_true", help="score the samples that are predicted; the row says how many they are"
    )
    parser.add_argument(
        "--trained-on", action="append", default=[], metavar="TASK:SPLIT",
        help="what the weights behind them have seen; scores on it are marked as leaks; again for more of them",
    )  # fmt: skip
    _show_forms(parser)


def _show_forms(parser: argparse.ArgumentParser) -> None:
    """End the help with the forms that each task reads; the adapters are imported when the help is asked for."""
    plain = parser.format_help

    def with_forms() -> str:
        import tasks

        return "\n".join(
            [plain(), "forms of PREDICTIONS:", *(f"  {name}: {_forms(name)}" for name in tasks.names()), ""]
        )

    parser.format_help = with_forms


def _forms(task: str) -> str:
    import tasks
    from backbones.errors import InputError

    try:
        return tasks.get(task).prediction_forms
    except InputError as error:  # a third party's task that cannot be imported
        return str(error)


def run(args: argparse.Namespace) -> CommandOutput:
    from harness import evaluation

    rows = evaluation.score(
        args.task,
        args.predictions,
        data=args.data,
        split=args.split,
        limit=args.limit,
        results=args.results,
        classes=args.classes,
        replicates=args.replicates,
        dataset=args.dataset,
        subset=args.subset,
        trained_on=args.trained_on,
    )
    return CommandOutput([asdict(row) for row in rows], rows_table(f"Scores of {', '.join(args.predictions)}", rows))
