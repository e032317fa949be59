"""What a run is: a task, a backbone, data and a recipe, all resolved before anything starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import backbones
import tasks
from backbones.errors import UsageError, unknown
from tasks.adapter import Sample, TaskAdapter
from tasks.recipe import PLACEMENT, Recipe, changed

if TYPE_CHECKING:
    from mmengine.model import BaseModel


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A resolved run."""

    adapter: TaskAdapter
    backbone: str
    weights: Path | None
    data: Path  # the task's own folder
    recipe: Recipe
    altered: tuple[str, ...]  # recipe fields that differ from the named recipe
    split: str
    seed: int
    limit: int | None
    folder: Path

    def samples(self, split: str) -> list[Sample]:
        """The samples of a split, or `limit` of them evenly spaced."""
        return limited(self.adapter.samples(self.data, split), self.limit)

    def build_model(self) -> BaseModel:
        """The task model without weights from a file; the seed decides the random ones."""
        import torch

        torch.manual_seed(self.seed)
        backbone = backbones.build(
            self.backbone,
            image_size=self.recipe.image_size,
            drop_path=self.recipe.drop_path,
            final_norm=self.adapter.final_norm,
            checkpoint_activations=self.recipe.checkpoint_activations,
        )
        return self.adapter.model(backbone, self.recipe, self.data)

    def identity(self, *, weights_sha256: str, data: dict[str, str], stage: str) -> dict[str, Any]:
        """What decides the result, for telling this run's folder from another's."""
        recipe = {name: value for name, value in asdict(self.recipe).items() if name not in PLACEMENT}
        return {
            "command": stage,
            "task": self.adapter.name,
            "backbone": self.backbone,
            "weights": weights_sha256,
            "split": self.split,
            "seed": self.seed,
            "data": data,
            **{f"recipe {name}": value for name, value in recipe.items()},
        }


def plan(
    task: str,
    *,
    backbone: str,
    data: str | Path,
    out: str | Path = "runs",
    weights: str | Path | None = None,
    recipe: str | None = None,
    changes: Sequence[str] = (),
    split: str | None = None,
    seed: int = 0,
    limit: int | None = None,
    name: str | None = None,
) -> Experiment:
    """Resolve names and options into an experiment.

    Args:
        task: see `tasks.get`.
        backbone: see `backbones.build`.
        data: the task's data folder, or one that holds it under its usual name.
        out: holds `results.csv` and one folder per run.
        recipe: which of the task's recipes; the backbone's size decides when not given.
        changes: `key=value` texts for recipe fields.
        limit: take that many samples of each split, evenly spaced.
        name: of the run's folder; backbone and seed when not given.

    Raises:
        UsageError: an unknown name, or an option that does not fit.
    """
    adapter = tasks.get(task)
    backbones.require(backbone)
    if adapter.needs_text and backbone.startswith(backbones.TIMM):
        raise UsageError(f"Task {task} needs a text encoder, which {backbone} lacks. Take a Multiway backbone.")
    base = _recipe(adapter, recipe or backbones.family(backbone))
    altered = changed(base, changes)
    split = split or adapter.eval_split
    adapter.split(split)
    if limit is not None and limit < 1:
        raise UsageError(f"--limit takes a number of samples from 1, not {limit}.")
    folder_name = name or f"{backbone.replace('/', '-')}-seed{seed}"
    return Experiment(
        adapter=adapter,
        backbone=backbone,
        weights=Path(weights) if weights else None,
        data=adapter.data_folder(Path(data)),
        recipe=altered,
        altered=tuple(altered.differs_from(base)),
        split=split,
        seed=seed,
        limit=limit,
        folder=Path(out) / adapter.name / folder_name,
    )


def _recipe(adapter: TaskAdapter, name: str) -> Recipe:
    if name not in adapter.recipes:
        raise unknown(f"recipe of {adapter.name}", name, adapter.recipes)
    return adapter.recipes[name]


def limited(samples: list[Sample], limit: int | None) -> list[Sample]:
    """All samples, or `limit` of them evenly spaced: class folders are sorted, so the first ones are one class."""
    if limit is None or limit >= len(samples):
        return samples
    return [samples[index * len(samples) // limit] for index in range(limit)]
