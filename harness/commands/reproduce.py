from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from harness.output import CommandOutput, table

if TYPE_CHECKING:
    from pathlib import Path

    from leaderboards.comparable import Benchmarks
    from leaderboards.published import PublishedRow
    from leaderboards.verdicts import Verdict

HELP = "reproduce a table's numbers: what can run here, a forecast, the runs, a verdict on each number"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="see `harness list tables`, or a table file of your own")
    parser.add_argument("--data", required=True, metavar="ROOT", help="folder of all data sets")
    parser.add_argument(
        "--weights", required=True, metavar="FOLDER", help="folder with the weights, as they were released"
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="TASK", help="numbers of these tasks alone")
    parser.add_argument("--out", default="runs/reproduce", metavar="DIR", help="for runs, results and verdicts")
    parser.add_argument("--plan", action="store_true", help="say what can run and how long it takes, and start nothing")
    parser.add_argument("--published", metavar="FILE", help="a .csv of published numbers in place of the package's")
    parser.add_argument("--dataset", metavar="NAME", help="name of the data behind --published")


def run(args: argparse.Namespace) -> CommandOutput:
    from pathlib import Path

    from harness import reproduce
    from harness.benchmarks import facts
    from harness.durations import duration
    from harness.progress import note

    rows = _numbers(args)
    known = _facts(facts(), rows, args.dataset)
    data, out = Path(args.data), Path(args.out)
    plan = reproduce.plan(rows, data=data, weights=Path(args.weights), facts=known, only=args.only)
    for verdict in plan.refused:
        note(f"{_place(verdict)}: {verdict.verdict}: {verdict.reason}")
    jobs = [reproduce.forecast(job, data=data) for job in plan.jobs]
    for job in jobs:
        numbers = ", ".join(f"{row.split} {row.metric}" for row in job.published)
        memory = f", {job.memory / 2**30:.1f} GiB" if job.memory else ""
        note(f"{job.task} with {job.weights.name} ({numbers}): about {duration(job.seconds or 0)}{memory}")
    if args.plan:
        return CommandOutput(_plan_data(plan.refused, jobs), lambda console: None)
    failed = [verdict for job in jobs for verdict in reproduce.run(job, data=data, out=out, dataset=args.dataset)]
    broken = {id(verdict.published) for verdict in failed}
    asked = [row for job in jobs for row in job.published if id(row) not in broken]
    own = reproduce.read_rows(out)
    entered = [row for row in own if row["server"]]
    refused = [_with_server(verdict, entered, known) for verdict in plan.refused]
    found = [*reproduce.judged(asked, own, known), *failed, *refused]
    order = {id(row): at for at, row in enumerate(rows)}
    found.sort(key=lambda verdict: order[id(verdict.published)])
    return _answer(args.name, found, out)


def _numbers(args: argparse.Namespace) -> list[PublishedRow]:
    from pathlib import Path

    from backbones.errors import InputError
    from leaderboards import published, tables

    spec = tables.load(args.name)
    try:
        every = published.read(Path(args.published)) if args.published else published.rows()
    except (OSError, published.PublishedError) as error:
        raise InputError(f"The published numbers {args.published} cannot be read: {error}") from error
    shown = {(column.task, column.split) for column in spec.measured}
    rows = [row for row in every if (spec.selects(row) or args.published) and (row.task, row.split) in shown]
    if not rows:
        raise InputError(f"The table {args.name} has no published numbers to reproduce.")
    return rows


def _facts(known: Benchmarks, rows: list[PublishedRow], dataset: str | None) -> Benchmarks:
    """The facts that results are held against: numbers on data of another name want that name."""
    from dataclasses import replace

    if dataset is None:
        return known
    return replace(known, datasets={**known.datasets, **{row.task: dataset for row in rows}}, sizes={})


def _with_server(verdict: Verdict, entered: list[dict[str, Any]], known: Benchmarks) -> Verdict:
    """The verdict on a number whose server's score was entered by hand."""
    from harness import reproduce
    from leaderboards.verdicts import NOT_REPRODUCIBLE

    if verdict.verdict != NOT_REPRODUCIBLE or not verdict.published.released:
        return verdict
    (judged,) = reproduce.judged([verdict.published], entered, known)
    return verdict if judged.verdict == NOT_REPRODUCIBLE else judged


def _place(verdict: Verdict) -> str:
    row = verdict.published
    return f"{row.name} {row.task} {row.split} {row.metric}"


def _plan_data(refused: Any, jobs: Any) -> dict[str, Any]:
    from harness.reproduce import as_row

    return {
        "runs": [
            {
                "task": job.task,
                "weights": job.weights.name,
                "splits": job.splits,
                "samples": job.samples,
                "seconds": job.seconds,
                "memory": job.memory,
            }
            for job in jobs
        ],
        "refused": [as_row(verdict) for verdict in refused],
    }


def _answer(name: str, found: list[Verdict], out: Path) -> CommandOutput:
    from pathlib import Path

    from harness.reproduce import as_row
    from harness.workdir import write_bytes
    from leaderboards import render
    from leaderboards.verdicts import OFF

    data = [as_row(verdict) for verdict in found]
    columns = list(data[0])
    file = out / f"verdicts-{Path(name).stem}.csv"
    write_bytes(file, render.csv_text(columns, [row.values() for row in data]).encode())
    shown = ("model", "task", "split", "metric", "published", "ours", "difference", "interval", "verdict", "reason")
    rows = [_cells(verdict) for verdict in found]
    title = f"Reproduction of {name}, also in {file}"
    return CommandOutput(data, table(title, shown, rows), ok=all(verdict.verdict != OFF for verdict in found))


def _cells(verdict: Verdict) -> tuple[str, ...]:
    row, digits = verdict.published, verdict.published.digits + 1
    ours = "" if verdict.ours is None else f"{verdict.ours:.{digits}f}"
    difference = "" if verdict.difference is None or verdict.low is None else f"{verdict.difference:+.{digits}f}"
    interval = "" if verdict.low is None else f"{verdict.low:+.{digits}f} – {verdict.high:+.{digits}f}"
    place = (row.name, row.task, row.split, row.metric, str(row.value))
    return (*place, ours, difference, interval, verdict.verdict, verdict.reason)
