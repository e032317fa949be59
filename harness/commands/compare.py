from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from harness.output import CommandOutput, table

if TYPE_CHECKING:
    from rich.console import Console

    from harness.compare import Comparison, Pair

HELP = "compare runs on the same data: differences with intervals, equivalence, ranks, changed samples"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="folders of runs, or files of replicates; seeds of one setting are one side",
    )
    parser.add_argument(
        "--margin", type=float, default=0.2, metavar="POINTS", help="closer than that is equivalent (default: 0.2)"
    )
    parser.add_argument("--data", metavar="ROOT", help="to rank changed samples by what they gain, and for pictures")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="write pictures of N changed samples")
    parser.add_argument("--out", default="compare", metavar="DIR", help="for the pictures (default: compare)")


def run(args: argparse.Namespace) -> CommandOutput:
    from harness.compare import compare

    found = compare(args.runs, margin=args.margin, data=args.data, show=args.show, out=args.out)
    return CommandOutput(_data(found), lambda console: _show(console, found, args.margin))


def _data(found: Comparison) -> dict[str, Any]:
    from harness.changes import shown

    data = asdict(found)
    data["changes"] = [
        {"id": c.id, "gain": c.gain, "size": c.size, "one": shown(c.one), "other": shown(c.other)}
        for c in found.changes
    ]
    return {**data, "pictures": [str(path) for path in found.pictures]}


def _show(console: Console, found: Comparison, margin: float) -> None:
    names = {side: chr(ord("A") + at) for at, side in enumerate(found.sides)}
    for side, letter in names.items():
        console.print(f"{letter}  {side}", markup=False, soft_wrap=True)
    console.print()
    rows = [_row(pair, names, margin, several=len(names) > 2) for pair in found.pairs]
    columns = ("pair", "task", "split", "metric", "difference", "95% interval", "p", f"less than {margin:g} apart")
    table("Differences, test samples drawn alike for all runs", columns, rows)(console)
    if len(names) > 2:
        count = len(names) * (len(names) - 1) // 2
        console.print(f"p is adjusted for the {count} pairs of each metric (Holm); so are the tie groups.")
    _show_seeds(console, found, names)
    for ranks in found.ranks:
        task, split, metric = ranks.metric
        shown = zip(ranks.groups, ranks.sides, ranks.values, strict=True)
        rows = [(str(group), names[side], f"{value:.3f}", side) for group, side, value in shown]
        table(f"Tie groups of {task} {split} {metric}", ("group", "", "value", "run"), rows)(console)
    _show_changes(console, found)


def _row(pair: Pair, names: dict[str, str], margin: float, *, several: bool) -> tuple[str, ...]:
    own = pair.difference
    p = pair.adjusted if several else own.p
    apart = own.low >= margin or own.high <= -margin
    return (
        f"{names[pair.one]} − {names[pair.other]}",
        *pair.metric,
        f"{own.value:+.3f}",
        f"{own.low:+.3f} – {own.high:+.3f}",
        f"{p:.3f}",
        "yes" if own.equivalent else "no" if apart else "cannot tell",
    )


def _show_seeds(console: Console, found: Comparison, names: dict[str, str]) -> None:
    rows = []
    for pair in found.pairs:
        seeds = pair.difference.seeds
        if seeds is None:
            continue
        points = " ".join(f"{point:+.3f}" for point in seeds.points) if len(seeds.points) < 6 else ""
        where = f"{names[pair.one]} − {names[pair.other]}"
        rows.append((where, *pair.metric, f"{seeds.low:+.3f} – {seeds.high:+.3f}", points))
    if rows:
        columns = ("pair", "task", "split", "metric", "95% interval (Student's t)", "differences of single seeds")
        table("The same differences over seeds", columns, rows)(console)
        console.print("Seeds and test samples are different questions; neither interval contains the other's spread.")


def _show_changes(console: Console, found: Comparison) -> None:
    from harness.changes import shown

    for place, (count, total) in found.changed.items():
        console.print(f"{place}: {count:,} of {total:,} samples have another prediction (A and B).", markup=False)
    rows = [(c.id, "" if c.gain is None else f"{c.gain:+.1f}", shown(c.one), shown(c.other)) for c in found.changes]
    if rows:
        table("Samples that changed most", ("id", "gain", "A", "B"), rows)(console)
    for path in found.pictures:
        console.print(f"Picture: {path}", markup=False, soft_wrap=True)
