from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from harness.output import CommandOutput, plain, table

if TYPE_CHECKING:
    import pandas as pd

HELP = "list result rows of any number of files and folders, filtered and sorted"
FORMATS = ("terminal", "markdown", "csv")
COLUMNS = ("task", "split", "metric", "value", "low", "high", "n", "backbone", "seed", "run_id")  # when none are named


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths", nargs="*", default=["runs"], metavar="PATH", help="results files, and folders of them (default: runs)"
    )
    parser.add_argument(
        "--where", action="append", default=[], metavar="COLUMN=VALUE",
        help="rows with that value alone; VALUE may have * and ?; again for more of them",
    )  # fmt: skip
    parser.add_argument("--sort", action="append", default=[], metavar="COLUMN", help="again for ties of the first")
    parser.add_argument("--reverse", action="store_true", help="the largest first")
    parser.add_argument("--columns", metavar="A,B,…", help="what to show, or all (default: the number and its run)")
    parser.add_argument("--format", choices=FORMATS, default="terminal")


def run(args: argparse.Namespace) -> CommandOutput:
    from harness.progress import note
    from leaderboards import render, results

    found = results.gather(args.paths)
    for text in (*found.problems, *found.notices):
        note(text)
    chosen = _chosen(found.frame, args)
    shown = chosen[_columns(chosen, args.columns)]
    cells = [[render.cell(value) for value in row] for row in shown.itertuples(index=False)]
    show = {
        "terminal": table(f"{len(shown):,} result rows", list(shown.columns), cells),
        "markdown": plain(render.markdown(list(shown.columns), cells)),
        "csv": plain(render.csv_text(list(shown.columns), shown.itertuples(index=False))),
    }[args.format]
    return CommandOutput(render.records(shown), show, ok=not found.problems)


def _chosen(frame: pd.DataFrame, args: argparse.Namespace) -> pd.DataFrame:
    from fnmatch import fnmatchcase

    from backbones.errors import UsageError
    from leaderboards import render

    for condition in args.where:
        column, equals, wanted = condition.partition("=")
        if not equals:
            raise UsageError(f"--where takes COLUMN=VALUE, such as --where task=imagenet, not {condition!r}.")
        _require_columns(frame, [column])
        texts = frame[column].map(render.cell)
        frame = frame[[fnmatchcase(text, wanted) for text in texts]]
    _require_columns(frame, args.sort)
    return frame.sort_values(args.sort, ascending=not args.reverse, kind="stable") if args.sort else frame


def _columns(frame: pd.DataFrame, asked: str | None) -> list[str]:
    if asked == "all":
        return list(frame.columns)
    names = asked.split(",") if asked else list(COLUMNS)
    _require_columns(frame, names)
    return names


def _require_columns(frame: pd.DataFrame, names: list[str]) -> None:
    from backbones.errors import unknown

    for name in names:
        if name not in frame:
            raise unknown("column", name, frame.columns)
