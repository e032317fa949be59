from __future__ import annotations

import argparse

from harness.output import CommandOutput, table

HELP = "say what works on this machine, what does not, and why"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", action="append", default=[], metavar="ROOT", help="data folders to look into")
    parser.add_argument("--out", default="runs", metavar="DIR", help="where runs are to be written")


def run(args: argparse.Namespace) -> CommandOutput:
    from harness.doctor import examine

    findings = examine(data=args.data, out=args.out)
    marks = {True: "ok", False: "no", None: "–"}
    rows = [("FAIL" if f.needed and not f.ok else marks[f.ok], f.name, f.detail) for f in findings]
    return CommandOutput(
        [f._asdict() for f in findings],
        table("This machine", ("", "what", "finding"), rows),
        ok=all(f.ok for f in findings if f.needed),
    )
