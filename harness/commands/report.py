from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from harness.output import CommandOutput

if TYPE_CHECKING:
    from rich.console import Console

HELP = "write one HTML file with tables, intervals, curves, pictures and provenance"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", metavar="OUT.html")
    parser.add_argument(
        "--results", nargs="+", default=["runs"], metavar="PATH", help="results, and folders of runs (default: runs)"
    )
    parser.add_argument(
        "--table", action="append", metavar="NAME", help="again for more (default: overview, and those of your tasks)"
    )
    parser.add_argument("--compare", nargs="+", default=[], metavar="RUN", help="runs to compare, as `harness compare`")
    parser.add_argument("--pictures", type=int, default=4, metavar="N", help="of each run (default: 4)")
    parser.add_argument("--title", default="Results")


def run(args: argparse.Namespace) -> CommandOutput:
    from pathlib import Path

    from harness.benchmarks import facts
    from harness.progress import note
    from harness.workdir import write_bytes
    from leaderboards import board, published, report, results, tables
    from leaderboards.report import runs

    found = results.gather(args.results)
    for text in (*found.problems, *found.notices):
        note(text)
    specs = [tables.load(name) for name in args.table or _tables(set(found.frame["task"]))]
    known = facts()
    sections = report.Sections(
        title=args.title,
        boards=[board.fill(spec, published.rows(), found.frame, known) for spec in specs],
        frame=found.frame,
        runs=runs.folders(args.results, pictures=args.pictures),
        verdicts=report.read_verdicts(args.results),
        comparison=_comparison(args.compare) if args.compare else (),
        problems=found.problems,
    )
    text = report.page(sections).encode()
    write_bytes(Path(args.out), text)

    def show(console: Console) -> None:
        console.print(f"Report: {args.out} ({len(text) / 1024:.0f} KiB)", markup=False, soft_wrap=True)

    return CommandOutput({"report": args.out, "bytes": len(text)}, show, ok=not found.problems)


def _tables(tasks: set[str]) -> list[str]:
    """The overview, and the paper's tables of some tasks."""
    from leaderboards import tables

    names = [name for name in tables.names() if not name.startswith("ablation") and name != "overview"]
    own = [name for name in names if tasks & {column.task for column in tables.load(name).measured}]
    return ["overview", *own]


def _comparison(paths: list[str]) -> list[tuple[str, tuple[str, ...], list[tuple[Any, ...]]]]:
    from harness.changes import shown
    from harness.compare import compare

    found = compare(paths)
    pairs = [
        (
            f"{pair.one} − {pair.other}",
            *pair.metric,
            f"{pair.difference.value:+.3f}",
            f"{pair.difference.low:+.3f} – {pair.difference.high:+.3f}",
            f"{pair.adjusted:.3f}",
        )
        for pair in found.pairs
    ]
    title = "Differences, test samples drawn alike; p adjusted for the pairs of a metric (Holm)"
    parts = [(title, ("runs", "task", "split", "metric", "difference", "95% interval", "p"), pairs)]
    if found.changes:
        lines = [(change.id, shown(change.one), shown(change.other)) for change in found.changes]
        parts.append(("Samples that changed most", ("id", "first run", "second run"), lines))
    return parts
