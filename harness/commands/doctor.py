from __future__ import annotations

import argparse

from harness.output import CommandOutput, table

HELP = "say what works on this machine, what does not, and why; with --task, forecast the memory of a training"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", action="append", default=[], metavar="ROOT", help="data folders to look into")
    parser.add_argument("--out", default="runs", metavar="DIR", help="where runs are to be written")
    training = parser.add_argument_group("memory of a training, in each process")
    training.add_argument("--task", metavar="TASK", help="or a recipe of `harness pretrain`")
    training.add_argument("--backbone", help="see `harness list backbones`")
    training.add_argument("--recipe", help="nano, base, large, giant or a variant (default: by the backbone)")
    training.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="changes",
        help="change a recipe field; precision=bf16 forecasts that of a GPU on a machine without one",
    )  # fmt: skip
    training.add_argument("--processes", type=int, default=1, metavar="N", help="that share the batch")


def run(args: argparse.Namespace) -> CommandOutput:
    if args.task or args.backbone:
        return _memory(args)
    from harness.doctor import examine

    findings = examine(data=args.data, out=args.out)
    marks = {True: "ok", False: "no", None: "–"}
    rows = [("FAIL" if f.needed and not f.ok else marks[f.ok], f.name, f.detail) for f in findings]
    return CommandOutput(
        [f._asdict() for f in findings],
        table("This machine", ("", "what", "finding"), rows),
        ok=all(f.ok for f in findings if f.needed),
    )


def _memory(args: argparse.Namespace) -> CommandOutput:
    from dataclasses import asdict

    from backbones.errors import UsageError

    if not (args.task and args.backbone):
        raise UsageError("A forecast of memory is of a task with a backbone: give both --task and --backbone.")
    if args.processes < 1:
        raise UsageError(f"--processes is a number from 1, not {args.processes}.")
    from harness import memory

    found = memory.forecast(
        args.task, backbone=args.backbone, recipe=args.recipe, changes=args.changes, processes=args.processes
    )
    return CommandOutput(
        asdict(found), table(f"Memory of {args.task} in each process, in GiB", ("part", "GiB"), memory.in_words(found))
    )
