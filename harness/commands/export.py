from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from harness.output import CommandOutput, plain

if TYPE_CHECKING:
    from rich.console import Console

HELP = "write results in the forms of others: Hugging Face, Every Eval Ever, CSV"
FORMATS = ("eval-results", "model-index", "every-eval-ever", "long-csv", "wide-csv")
RELATIONSHIPS = ("first_party", "third_party", "collaborative", "other")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="*", default=["runs"], metavar="PATH", help="results (default: runs)")
    parser.add_argument("--format", required=True, choices=FORMATS)
    parser.add_argument("--out", metavar="DIR", help="for the files (default: one file is printed)")
    parser.add_argument("--organization", default="unnamed", help="who evaluated")
    parser.add_argument(
        "--relationship", choices=RELATIONSHIPS, default="third_party", help="of the evaluator to the model"
    )
    parser.add_argument(
        "--hub-dataset", action="append", default=[], metavar="TASK=ID", help="a task's data set on the hub"
    )


def run(args: argparse.Namespace) -> CommandOutput:
    import time
    from pathlib import Path

    from backbones.errors import UsageError
    from harness.progress import note
    from harness.workdir import write_bytes
    from leaderboards import exports, results

    hub = dict(exports.HUB)
    for pair in args.hub_dataset:
        task, equals, name = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"--hub-dataset takes TASK=ID, such as nlvr2=OWNER/NAME, not {pair!r}.")
        hub[task] = name
    found = results.gather(args.paths)
    for text in (*found.problems, *found.notices):
        note(text)
    about = exports.About(
        organization=args.organization, relationship=args.relationship, retrieved=int(time.time()), hub=hub
    )
    files = exports.export(args.format, found.frame, about)
    left = sorted(set(found.frame["task"]) - hub.keys()) if args.format in ("eval-results", "model-index") else []
    if left:
        note(f"Left out, since no data set on the hub is known: {', '.join(left)}. Name it: --hub-dataset {left[0]}=ID")
    ok = not found.problems and not left
    if args.out is None:
        if len(files) != 1:
            raise UsageError(f"{args.format} has {len(files)} files for these results: give a folder, --out DIR.")
        return CommandOutput(files, plain(next(iter(files.values()))), ok=ok)
    for name, text in files.items():
        write_bytes(Path(args.out) / name, text.encode())

    def show(console: Console) -> None:
        for name in files:
            console.print(f"{args.out}/{name}", markup=False, soft_wrap=True)

    return CommandOutput(sorted(files), show, ok=ok)
