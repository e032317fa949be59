"""Stages of pretraining that the rows of a grid begin with, each once for all cells that share it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import backbones
from backbones.config import with_fields
from backbones.errors import InputError, UsageError
from harness.experiment import NO_WEIGHTS
from harness.grids import identity as identities
from harness.grids import settings
from harness.grids.code_change import CodeChange
from harness.grids.hashes import Hashes
from harness.grids.jobs import Job
from harness.hardware import Hardware
from leaderboards.grids import Grid, GridRow
from tasks.pretraining import recipes, sources
from tasks.pretraining.recipe import ClusterRecipe, DistillationRecipe, MaskedDataRecipe, PretrainingRecipe
from tasks.recipe import changed

# Stages before the one that rows change are the same for all seeds, as a tokenizer of the paper is one given file.
SHARED_SEED = 0


class Stages:
    """The stages of a grid. jobs: those asked for so far, each after those that it needs."""

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
        self._made: dict[str, Job] = {}
        self._rows: dict[tuple[str, int], Job] = {}

    @property
    def jobs(self) -> tuple[Job, ...]:
        return tuple(self._made.values())

    def last(self, row: GridRow, seed: int) -> Job | None:
        """The stage whose weights a row's fine-tuning begins with; None for a grid without pretraining.

        Raises:
            UsageError: a recipe or a field that there is not, or a file that nobody gives; the message names the row.
        """
        given = self._grid.pretraining
        if given is None:
            return None
        if (row.name, seed) not in self._rows:
            try:
                self._rows[row.name, seed] = self._stage(
                    given.recipe,
                    backbone=with_fields(self._grid.backbone, settings.texts(row.backbone)),
                    seed=seed,
                    changes=settings.texts(given.set, row.pretraining),
                    weights=row.weights or given.weights or self._files["weights"] or "",
                    row=row.name,
                )
            except InputError as error:
                raise type(error)(f"The grid {self._grid.name}, row {row.name!r}: {error}") from error
        return self._rows[row.name, seed]

    def _stage(self, name: str, *, backbone: str, seed: int, changes: list[str], weights: str, row: str) -> Job:
        recipe = changed(recipes.get(name), changes)
        backbones.require(backbone)
        needs: dict[str, Job] = {}
        options: dict[str, Any] = {"recipe": name, "backbone": backbone, "changes": changes, "seed": seed}
        begins = {
            "weights": self._first_weights(recipe, weights, options, needs, row),
            "image_target": self._target(name, recipe, options, needs, row),
            "teacher": self._teacher(name, recipe, options, needs, row),
        }
        words = self._words(backbone) if {"texts", "pairs"} & set(recipe.kinds) else None
        folder = Path(self._grid.pretraining.data)
        options |= {"data": str(folder), "tokenizer": str(words) if words else None}
        identity = {
            "stage": name,
            "recipe": settings.of_recipe(recipe),
            "backbone": settings.of_backbone(backbone),
            "seed": seed,
            **begins,
            "data": self._data(recipe, folder, words),
            "tokenizer": self._hashes.of_file(words) if words else "",
            **settings.of_machine(self._machine, recipe),
            identities.CODE: identities.code(),
        }
        return self._job(name, identity, options, needs, row=row, seed=seed)

    def _job(
        self,
        name: str,
        identity: dict[str, Any],
        options: dict[str, Any],
        needs: Mapping[str, Job],
        *,
        row: str,
        seed: int,
    ) -> Job:
        identity = identities.plain(identity)
        key = identities.key(identity)
        if key not in self._made:
            folder = self._folder / key[: identities.FOLDER_NAME]
            job = Job(
                kind="stage", grid=self._grid.name, row=row, column=name, seed=seed, options=options, identity=identity,
                folder=str(folder), needs=tuple(job.key for job in needs.values()), minutes=self._grid.budget.minutes,
                code_change=next((need.code_change for need in needs.values() if need.code_change), ""), key=key,
            )  # fmt: skip
            self._made[key] = self._code_change.counting(job)
        return self._made[key]

    def _before(self, name: str, needs: dict[str, Job], row: str, *, option: str) -> Job:
        """A stage before another one, which it needs."""
        if name not in recipes.RECIPES:
            raise UsageError(f"There is no stage {name}, whose result is needed: give {option}.")
        stage = self._grid.pretraining
        needs[name] = self._stage(
            name, backbone=self._grid.backbone, seed=SHARED_SEED, changes=settings.texts(stage.before.get(name, {})),
            weights="", row=row,
        )  # fmt: skip
        return needs[name]

    def _first_weights(
        self, recipe: PretrainingRecipe, given: str, options: dict[str, Any], needs: dict[str, Job], row: str
    ) -> Any:
        if given and given != NO_WEIGHTS:
            options["weights"] = str(Path(given).absolute())
            return self._hashes.of_file(Path(given))
        if given == NO_WEIGHTS or not recipe.starts_from:
            options["weights"] = NO_WEIGHTS
            return ""
        job = self._before(recipe.starts_from, needs, row, option='weights = "none" for random ones')
        options["weights"] = str(job.result)
        return job.identity

    def _target(
        self, name: str, recipe: PretrainingRecipe, options: dict[str, Any], needs: dict[str, Job], row: str
    ) -> Any:
        options["image_tokenizer"] = None
        if not isinstance(recipe, MaskedDataRecipe) or recipe.image_reconstruction == "none":
            return ""
        if recipe.image_target == "pixels":
            return ""
        if recipe.image_target == "tokenizer" and (given := self._files["image_tokenizer"]):
            options["image_tokenizer"] = str(Path(given).absolute())
            return self._hashes.of_file(Path(given))
        kind = "tokenizer" if recipe.image_target == "tokenizer" else "clusters"
        job = self._before(recipes.stage(name, kind), needs, row, option="--image-tokenizer FILE")
        options["image_tokenizer"] = str(job.result)
        return job.identity

    def _teacher(
        self, name: str, recipe: PretrainingRecipe, options: dict[str, Any], needs: dict[str, Job], row: str
    ) -> Any:
        if not isinstance(recipe, DistillationRecipe | ClusterRecipe):
            return ""
        job = self._before(recipes.stage(name, "teacher"), needs, row, option="--image-tokenizer FILE")
        options |= {"teacher": str(job.result), "teacher_backbone": self._grid.backbone}
        return job.identity

    def _words(self, backbone: str) -> Path:
        path = self._files["tokenizer"] or backbones.bundled_tokenizer(backbone)
        if path is None:
            raise UsageError(f"Texts need the tokenizer that belongs to {backbone}: give --tokenizer FILE.")
        return Path(path).absolute()

    def _data(self, recipe: PretrainingRecipe, folder: Path, words: Path | None) -> str:
        read = (*recipe.kinds, recipe.pair_files, getattr(recipe, "text_length", 0))
        name = f"pretraining {read} {identities.code()['source']}"
        places = [folder, words] if words else [folder]
        return self._hashes.of_data(name, places, lambda: _data_sha256(recipe, folder, words))


def _data_sha256(recipe: PretrainingRecipe, folder: Path, words: Path | None) -> str:
    from backbones.tokenizer import Tokenizer
    from harness import pretraining_plan  # imports PyTorch
    from tasks.pretraining import stages

    read = stages.read(recipe, sources.under(folder), Tokenizer(words) if words else None)
    return pretraining_plan.data_sha256(read)
