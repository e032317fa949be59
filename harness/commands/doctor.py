from __future__ import annotations

import argparse

from harness.answer import Answer, table

HELP = "say what works on this machine, what does not, and why"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", action="append", default=[], metavar="ROOT", help="data folders to look into")
    parser.add_argument("--out", default="runs", metavar="DIR", help="where runs are to be written")


def run(args: argparse.Namespace) -> Answer:
    from harness.doctor import examine

    findings = examine(data=args.data, out=args.out)
    marks = {True: "ok", False: "no"}
    rows = [(marks[f.ok] if f.ok or not f.needed else "WRONG", f.name, f.detail) for f in findings]
    return Answer(
        [f._asdict() for f in findings],
        table("This machine", ("", "what", "finding"), rows),
        ok=all(f.ok for f in findings if f.needed),
    )
