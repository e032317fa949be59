"""Cells of a grid: a task fine-tuned from what a stage of pretraining made, or from given weights, and its score."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import backbones
import tasks
from backbones.config import with_fields
from backbones.errors import InputError, UsageError, unknown
from harness import provenance
from harness.experiment import NO_WEIGHTS, Resolved, limited, resolve
from harness.grids import identity as identities
from harness.grids import settings
from harness.grids.code_change import CodeChange
from harness.grids.hashes import Hashes
from harness.grids.jobs import Job
from harness.hardware import Hardware
from leaderboards.grids import Grid, GridColumn, GridRow
from tasks.adapter import TaskAdapter
from tasks.common.reading import parsed_once
from tasks.pretraining import recipes
from tasks.recipe import changed

RUN = "run"  # name of the run's folder inside the cell's


class FineTuning:
    """The cells of a grid; what they share is resolved once."""

    def __init__(
        self,
        grid: Grid,
        *,
        folder: Path,
        hashes: Hashes,
        machine: Hardware,
        files: Mapping[str, str | None],
        code_change: CodeChange,
    ) -> None:
        self._grid, self._folder, self._hashes, self._machine, self._files = grid, folder, hashes, machine, files
        self._code_change = code_change
        self._parts: dict[tuple[str, str], tuple[dict[str, Any], dict[str, Any]]] = {}
        self._data: dict[tuple[str, str], str] = {}

    def job(self, row: GridRow, column: GridColumn, seed: int, stage: Job | None) -> Job:
        """The cell of a row, a column and a seed.

        Args:
            stage: whose weights it begins with.

        Raises:
            UsageError: a task, split, metric or field that there is not; the message names row and column.
            InputError: data that cannot be read.
        """
        if (row.name, column.name) not in self._parts:
            try:
                self._parts[row.name, column.name] = self._resolved(row, column, stage)
            except InputError as error:
                where = f"row {row.name!r}, column {column.name!r}"
                raise type(error)(f"The grid {self._grid.name}, {where}: {error}") from error
        options, identity = self._parts[row.name, column.name]
        identity = {**identity, "seed": seed, "pretraining": stage.identity if stage else ""}
        key = identities.key(identity)
        weights = {"weights": str(stage.result)} if stage else {}
        folder = self._folder / key[: identities.FOLDER_NAME]
        job = Job(
            kind="cell", grid=self._grid.name, row=row.name, column=column.name, seed=seed, metric=column.metric,
            options={**options, "seed": seed, **weights}, identity=identity, folder=str(folder),
            needs=(stage.key,) if stage else (), minutes=self._grid.budget.minutes,
            code_change=stage.code_change if stage else "", key=key,
        )  # fmt: skip
        return self._code_change.counting(job)

    def _resolved(self, row: GridRow, column: GridColumn, stage: Job | None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Options and identity of a row and a column without what hangs on the seed."""
        adapter = tasks.get(column.task)
        _require_scored(adapter, column)
        backbone = self._backbone(row)
        given = row.weights or self._files["weights"] or ""
        asked = None if stage or not given else given if given == NO_WEIGHTS else Path(given).absolute()
        changes = settings.texts(column.set, row.finetuning)
        limit = self._grid.budget.limit or None
        found = resolve(
            column.task, backbone=backbone, data=self._grid.data, weights=asked, tokenizer=self._files["tokenizer"],
            recipe=column.recipe or None, changes=changes, split=column.split, limit=limit,
            weights_follow=stage is not None,
        )  # fmt: skip
        options = {
            "task": column.task, "backbone": backbone, "data": self._grid.data,
            "weights": str(found.weights or NO_WEIGHTS),  # named: the default may be a bundled file
            "tokenizer": found.tokenizer and str(found.tokenizer.absolute()),
            "recipe": column.recipe or None, "changes": changes, "split": column.split, "limit": limit,
        }  # fmt: skip
        identity = {
            "task": column.task,
            "split": column.split,
            "metrics": {metric.name: metric.version for metric in adapter.metrics},
            "recipe": settings.of_recipe(found.recipe),
            "backbone": settings.of_backbone(backbone),
            "limit": limit,
            "weights": self._hashes.of_file(found.weights) if found.weights else "",
            "data": {split: self._data_sha256(found, split, limit) for split in _splits(adapter, found)},
            "tokenizer": self._hashes.of_file(found.tokenizer) if found.tokenizer else "",
            **settings.of_machine(self._machine, found.recipe),
            identities.CODE: identities.code(),
        }
        return options, identities.plain(identity)

    def _backbone(self, row: GridRow) -> str:
        """The backbone of a row: the grid's with the row's fields, and those that its pretraining sets."""
        name = with_fields(self._grid.backbone, settings.texts(row.backbone))
        stage = self._grid.pretraining
        if stage is not None:
            recipe = changed(recipes.get(stage.recipe), settings.texts(stage.set, row.pretraining))
            name = with_fields(name, settings.texts(recipe.backbone_options()))
        backbones.require(name)
        return name

    def _data_sha256(self, found: Resolved, split: str, limit: int | None) -> str:
        adapter = found.adapter
        place = (adapter.name, split)
        if place not in self._data:
            name = f"{adapter.name} {split} {limit} {identities.code()['source']}"
            self._data[place] = self._hashes.of_data(name, [found.data], lambda: _sha256(found, split, limit))
        return self._data[place]


def _require_scored(adapter: TaskAdapter, column: GridColumn) -> None:
    names = [metric.name for metric in adapter.metrics]
    if column.metric not in names:
        raise unknown(f"metric of {adapter.name}", column.metric, names)
    if not adapter.split(column.split).labels:
        scored = ", ".join(name for name, split in adapter.splits.items() if split.labels)
        raise UsageError(
            f"The truth of {adapter.name}'s split {column.split} is not public, so no cell can be scored. Use another "
            f"split: {scored}."
        )


def _splits(adapter: TaskAdapter, found: Resolved) -> list[str]:
    """The splits that decide the result."""
    training = [adapter.train_split] if found.recipe.trains else []
    training += [adapter.validates] if found.recipe.trains and found.recipe.keep == "best" else []
    return list(dict.fromkeys([*training, *found.splits]))


def _sha256(found: Resolved, split: str, limit: int | None) -> tuple[str, bool]:
    """The hash of a split's samples, and whether all of their files are in the task's folder."""
    with parsed_once():
        samples = limited(found.adapter, found.adapter.samples(found.data, split), limit)
    files = found.adapter.image_files(samples[0]) if len(samples) else ()
    folder = os.path.realpath(found.data)
    inside = all(os.path.realpath(found.data / file).startswith(folder + os.sep) for file in files)
    return provenance.data_sha256(found.adapter, samples, found.data), inside
