from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.output import CommandOutput, plain, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from harness.grids.execution import Launch
    from harness.grids.jobs import Job
    from harness.grids.planning import Plan
    from harness.grids.store import Found
    from harness.hardware import Hardware
    from leaderboards.grids.table import GridTable

HELP = "run a grid of ablations: pretraining, fine-tuning and score of every cell, and its table"
SIGNS = {"done": "done", "failed": "failed", "unfinished": "begun", "new": "to run", "foreign": "another grid's folder"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="see `harness list grids`, or a .toml file of your own")
    parser.add_argument("--data", metavar="ROOT", help="data root of the tasks, or: toy (default: the grid's)")
    parser.add_argument(
        "--pretraining-data",
        metavar="ROOT",
        help="folder with images/, texts/ and pairs/, or: toy (default: the grid's)",
    )
    parser.add_argument("--out", default="runs/ablations", metavar="DIR", help="a folder per grid (%(default)s)")
    parser.add_argument("--seeds", metavar="0,1,2", help="instead of the grid's")
    parser.add_argument("--size", help="nano, base or large, without the grid's budget (default: the grid's)")
    parser.add_argument("--weights", metavar="FILE", help="that rows begin with which name none")
    parser.add_argument("--tokenizer", metavar="FILE", help="sentencepiece model of the backbone")
    parser.add_argument("--image-tokenizer", metavar="FILE", help="codes of masked patches, as of `harness pretrain`")
    parser.add_argument(
        "--jobs", type=int, metavar="N",
        help="cells at a time (default: one for each GPU; on a CPU one; in SLURM as many as it starts)",
    )  # fmt: skip
    parser.add_argument(
        "--launcher", choices=("local", "slurm"), default="local", help="where cells run (default: %(default)s)"
    )
    parser.add_argument(
        "--slurm", action="append", default=[], metavar="KEY=VALUE",
        help="field of sbatch for each cell, such as partition=gpu, gpus-per-node=1, time=240; again for more of them",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="list the cells and a forecast, and run nothing")
    parser.add_argument("--retry-failed", action="store_true", help="run cells again that failed")
    parser.add_argument(
        "--accept-code-change", default="", metavar="REASON",
        help="let results of other code count, where all else is the same; the reason stands in the rows",
    )  # fmt: skip
    parser.add_argument("--verify-data", action="store_true", help="hash data and files anew, whatever their times")
    parser.add_argument("--format", choices=("terminal", "markdown", "csv"), default="terminal")


def run(args: argparse.Namespace) -> CommandOutput:
    from harness import seeds
    from harness.grids import execution
    from harness.grids.planning import plan

    machine, launch = _in_slurm(args) if args.launcher == "slurm" else _here(args)
    planned = plan(
        args.name, data=args.data, pretraining_data=args.pretraining_data, out=args.out,
        seeds=seeds.parsed(args.seeds) if args.seeds else (), size=args.size, weights=args.weights,
        tokenizer=args.tokenizer, image_tokenizer=args.image_tokenizer, verify_data=args.verify_data, device=machine,
        accept_code_change=args.accept_code_change,
    )  # fmt: skip
    _tell(planned)
    if args.dry_run:
        found = execution.looked(planned)
        return _dry_run(planned, found, execution.missing(planned, found, retry_failed=args.retry_failed), launch)
    found = execution.run(planned, launch.run, place=launch.place, retry_failed=args.retry_failed)
    return _answer(planned, found, args.format)


class _Launcher(NamedTuple):
    """A way to run jobs. at_once: of them, None where that is not known; place: of the jobs, in words."""

    run: Launch
    at_once: int | None
    place: str


def _here(args: argparse.Namespace) -> tuple[Hardware, _Launcher]:
    """The device and the queue of this machine."""
    from backbones.errors import UsageError
    from harness import hardware, slots
    from harness.grids import queue

    if args.slurm:
        raise UsageError(f"--slurm {args.slurm[0]} is for --launcher slurm. Give that too, or leave it out.")
    machine = hardware.found()
    places = slots.slots(machine, args.jobs)
    return machine, _Launcher(partial(queue.run, places=places), len(places), f"{len(places)} at a time")


def _in_slurm(args: argparse.Namespace) -> tuple[Hardware, _Launcher]:
    """The device of a SLURM cluster's nodes, and the submission to it."""
    from backbones.errors import UsageError
    from harness.grids.slurm import device, fields, pinned, squeue, watch
    from harness.grids.slurm.submission import Submission
    from leaderboards import grids

    if args.jobs is not None and args.jobs < 1:
        raise UsageError(f"--jobs is a number of cells from 1, not {args.jobs}.")
    grid = grids.load(args.name)
    given = fields.parsed(args.slurm, budget=0 if args.size else grid.budget.minutes)
    folder = Path(args.out).absolute() / "slurm"
    code = pinned.copy(folder / "code")
    submission = Submission(given, folder=folder, code=code, name=f"harness-{grid.name}", at_once=args.jobs)
    machine = device.of(given, submission, folder / "devices")
    states = squeue.require_states()
    return machine, _Launcher(partial(watch.run, submission=submission, states=states), args.jobs, "in SLURM")


def _tell(plan: Plan) -> None:
    from harness.grids.execution import strangers
    from harness.progress import note

    if plan.code_change.ignored:
        note(
            f"{plan.code_change.ignored} finished jobs were made by other code (or other libraries) and do not count. "
            "If the change moves no number, --accept-code-change REASON lets them."
        )
    if count := strangers(plan):
        note(
            f"{count} folders in {plan.folder} are no cells of the grid as it is now (another grid, other options or "
            "other code). They are left alone, and are not in the table."
        )


def _dry_run(plan: Plan, found: Mapping[str, Found], jobs: Sequence[Job], launch: _Launcher) -> CommandOutput:
    from harness.durations import duration
    from harness.grids.execution import forecast

    expected = forecast(jobs, found, slots=launch.at_once or len(jobs))
    running = {job.key for job in jobs}
    entries = [_entry(plan, job, found[job.key], runs=job.key in running) for job in plan.jobs]
    columns = ("", "row", "column or stage", "seed", "differs from the baseline", "key")
    rows = [
        (entry["state"], entry["row"], entry["column"], str(entry["seed"]), entry["difference"], entry["key"][:8])
        for entry in entries
    ]
    shown = table(f"{plan.grid.title}: {len(jobs)} of {len(plan.jobs)} jobs to run", columns, rows)

    def show(console: Console) -> None:
        shown(console)
        unknown = f", and {expected.unknown} jobs of which none was measured yet" if expected.unknown else ""
        console.print(f"Forecast: {duration(expected.seconds)}{unknown}, {launch.place}.", markup=False)

    data = {
        "grid": plan.grid.name, "jobs": entries, "to_run": len(jobs), "seconds": expected.seconds,
        "not_measured": expected.unknown,
    }  # fmt: skip
    return CommandOutput(data, show)


def _entry(plan: Plan, job: Job, found: Found, *, runs: bool) -> dict[str, Any]:
    from harness.grids import identity

    baseline = plan.cells.get((plan.grid.baseline, job.column, job.seed))
    apart = identity.difference(job.identity, baseline.identity) if baseline and job.kind == "cell" else {}
    return {
        "kind": job.kind, "row": job.row, "column": job.column, "seed": job.seed, "key": job.key,
        "state": SIGNS[found.state], "runs": runs, "reason": found.reason, "seconds": found.seconds,
        "difference": identity.words(apart), "folder": job.folder,
    }  # fmt: skip


def _answer(plan: Plan, found: Mapping[str, Found], form: str) -> CommandOutput:
    from harness.grids.execution import results
    from leaderboards import published
    from leaderboards.grids import texts
    from leaderboards.grids.table import fill

    whole, failed = results(plan, found)
    filled = fill(plan.grid, whole, failed, published.rows())
    ok = len(whole) == len(plan.cells)
    unfinished = [job.label for place, job in plan.cells.items() if place not in whole]
    data = {"grid": plan.grid.name, "folder": str(plan.folder), "rows": texts.records(filled)}
    if not ok:
        data = {"error": f"Not done: {len(unfinished)} of {len(plan.cells)} cells", "not_done": unfinished} | data
    if form != "terminal":
        return CommandOutput(data, plain(_text(filled, form)), ok=ok)

    def show(console: Console) -> None:
        for column in filled.columns:
            table(f"{filled.title}: {column.title}", *_cells(column))(console)
        for line in texts.legend(filled):
            console.print(line, markup=False)
        if not ok:
            console.print(f"Not done: {len(unfinished)} of {len(plan.cells)} cells.", markup=False)

    return CommandOutput(data, show, ok=ok)


def _cells(column: Any) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Columns and rows of texts, without columns that are empty."""
    from leaderboards.grids import texts

    rows = texts.lines(column)
    kept = [at for at in range(len(texts.COLUMNS)) if any(row[at] for row in rows)]
    return [texts.COLUMNS[at] for at in kept], [[row[at] for at in kept] for row in rows]


def _text(filled: GridTable, form: str) -> str:
    from leaderboards import render
    from leaderboards.grids import texts

    columns = ("column", *texts.COLUMNS)
    rows = [(column.title, *row) for column in filled.columns for row in texts.lines(column)]
    if form == "csv":
        return render.csv_text(columns, rows)
    return render.markdown(columns, rows) + "\n" + "\n\n".join(texts.legend(filled)) + "\n"
