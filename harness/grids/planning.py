"""Plan of a grid: every stage of pretraining and every cell, resolved to the last default, before anything starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from backbones.errors import InputError, UsageError, unknown
from harness import hardware
from harness.grids.code_change import CodeChange
from harness.grids.fine_tuning import FineTuning
from harness.grids.hashes import Hashes
from harness.grids.jobs import Job
from harness.grids.stages import Stages
from harness.hardware import Hardware
from harness.progress import track
from harness.toy_sets import sets
from leaderboards import grids
from leaderboards.grids import Grid, GridRow
from leaderboards.grids.table import Place
from tasks import toy
from tasks.pretraining import recipes, toy_data

TOY = "toy"  # as a data folder: drawn under the output folder
STAGES, CELLS = "pretraining", "cells"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A grid's jobs.

    jobs: stages of pretraining, each after those that it needs, then cells.
    cells: by row, column and seed; columns that show two metrics of one fine-tuning share their cells.
    """

    grid: Grid
    folder: Path
    jobs: tuple[Job, ...]
    cells: Mapping[Place, Job]
    code_change: CodeChange

    def waves(self) -> list[list[dict[str, Any]]]:
        """Specifications in groups: those of a group need nothing but the groups before it (see `run_cell`)."""
        done: set[str] = set()
        waves, left = [], list(self.jobs)
        while left:
            wave = [job for job in left if done.issuperset(job.needs)]
            done |= {job.key for job in wave}
            left = [job for job in left if job.key not in done]
            waves.append([job.specification() for job in wave])
        return waves


def plan(
    name: str | Path,
    *,
    data: str | None = None,
    pretraining_data: str | None = None,
    out: str | Path = "runs/ablations",
    seeds: Sequence[int] = (),
    size: str | None = None,
    weights: str | None = None,
    tokenizer: str | None = None,
    image_tokenizer: str | None = None,
    verify_data: bool = False,
    device: Hardware | None = None,
    accept_code_change: str = "",
) -> Plan:
    """Resolve a grid into its jobs; toy data that it asks for are drawn, nothing is trained.

    Args:
        name: of a grid of the package, or the path of a file.
        data: data root of the columns' tasks, or "toy"; by default the grid's.
        pretraining_data: folder with images/, texts/ and pairs/, or "toy"; by default the grid's.
        out: holds a folder for each grid, and one for stages of pretraining, which grids share.
        seeds: instead of the grid's.
        size: nano, base or large instead of the grid's; its budget, which is for another size, does not count then.
        weights: that rows begin with which name none of their own.
        tokenizer, image_tokenizer: files for texts and for the codes of masked patches, where the package has none.
        verify_data: compute hashes of data and files anew, whatever their sizes and times.
        device: that the cells will compute on; by default this machine's.
        accept_code_change: why results of other code count, where all else is the same; the reason stands in the rows.

    Raises:
        UsageError: a name, a recipe field or a metric that there is not; a data folder or a file that is not given.
        InputError: data or files that cannot be read.
    """
    grid = grids.load(name)
    grid = replace(grid, seeds=tuple(seeds)) if seeds else grid
    grid = of_size(grid, size) if size else grid
    out = Path(out).absolute()
    grid = replace(grid, data=_data(grid, data or grid.data, out))
    if grid.pretraining:
        given = pretraining_data or grid.pretraining.data
        grid = replace(grid, pretraining=replace(grid.pretraining, data=_pretraining_data(grid, given, out)))
    files = {"weights": weights, "tokenizer": tokenizer, "image_tokenizer": image_tokenizer}
    machine = device or hardware.found()
    hashes = Hashes(out / "hashes", verify=verify_data)
    code_change = CodeChange(accept_code_change)
    shared = {"hashes": hashes, "machine": machine, "files": files, "code_change": code_change}
    stages = Stages(grid, folder=out / STAGES, **shared)
    cells = FineTuning(grid, folder=out / grid.name / CELLS, **shared)
    placed = {
        (row.name, column.name, seed): cells.job(row, column, seed, stages.last(row, seed))
        for row, column, seed in _places(grid)
    }
    _require_different(grid, placed.values())
    once: dict[str, Job] = {}
    for job in placed.values():
        once.setdefault(job.key, job)
    jobs = (*stages.jobs, *once.values())
    return Plan(grid=grid, folder=out / grid.name, jobs=jobs, cells=placed, code_change=code_change)


def _require_different(grid: Grid, jobs: Iterable[Job]) -> None:
    """Check that no two rows come to the same once all defaults are filled in."""
    seen: dict[str, Job] = {}
    for job in jobs:
        if job.key in seen and job.row != seen[job.key].row:
            raise UsageError(
                f"The grid {grid.name} has a row twice: {job.row!r} and {seen[job.key].row!r} come to the same "
                f"{job.column} once the defaults are filled in. Remove one, or change it."
            )
        seen[job.key] = job


def _places(grid: Grid) -> list[tuple[GridRow, Any, int]]:
    """Rows, columns and seeds; a seed of every row comes before the next seed, so that a table fills evenly."""
    return [(row, column, seed) for seed in grid.seeds for row in grid.run_rows for column in grid.columns]


def of_size(grid: Grid, size: str) -> Grid:
    """The grid for another size: its backbone and recipes by their names, without budget and fields set for all rows.

    Raises:
        UsageError: no such size.
    """
    if size not in recipes.BACKBONES:
        raise unknown("size", size, recipes.BACKBONES)
    stage = grid.pretraining
    if stage is not None:
        kind = stage.recipe.partition("_")[2]
        stage = replace(stage, recipe=f"{size}_{kind}", set={}, before={}, data="")
    columns = tuple(replace(column, recipe="", set={}) for column in grid.columns)
    return replace(
        grid, name=f"{grid.name}-{size}", backbone=recipes.BACKBONES[size], pretraining=stage, columns=columns,
        budget=grids.Budget(), data="",
    )  # fmt: skip


def _data(grid: Grid, given: str, out: Path) -> str:
    if given == TOY:
        folder = out / "toy"
        toy.write(folder, tasks=sets(column.task for column in grid.columns), progress=track)
        return str(folder)
    return _folder(given, f"The grid {grid.name} names no data: give --data ROOT, or --data toy for practice data.")


def _pretraining_data(grid: Grid, given: str, out: Path) -> str:
    if given == TOY:
        return str(toy_data.write(out / "toy-pretraining", progress=track))
    return _folder(
        given,
        f"The grid {grid.name} names no data to pretrain on: give --pretraining-data FOLDER with images/, texts/ and "
        "pairs/, or --pretraining-data toy for practice data.",
    )


def _folder(given: str, absent: str) -> str:
    if not given:
        raise UsageError(absent)
    if not Path(given).is_dir():
        raise InputError(f"There is no folder {given}. {absent}")
    return str(Path(given).absolute())
