"""Pretraining: a stage of `tasks.pretraining.recipes` from its data to the weights or the tokenizer that it makes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseModel
from torch.utils.data import Dataset, default_collate

import backbones
from backbones import weights as weight_files
from backbones.errors import InputError
from backbones.files import reading
from backbones.tokenizer import Tokenizer
from harness import distributed, pretraining_log, provenance
from harness.node_samples import once_per_node
from harness.peak import step_flops
from harness.pretraining_log import PretrainingLog
from harness.pretraining_plan import CLUSTERS, TOKENIZER, Pretraining
from harness.progress import note
from harness.provenance import same
from harness.training import fine_tune
from harness.workdir import CHECKPOINTS, RUN, opened
from tasks.pretraining import clusters, stages, tokenizer
from tasks.pretraining.probe import ContrastiveProbe
from tasks.pretraining.recipe import (
    ClusterRecipe,
    ContrastiveRecipe,
    DistillationRecipe,
    MaskedDataRecipe,
    PretrainingRecipe,
)

FLOP_SAMPLES = 4


@dataclass(frozen=True)
class Pretrained:
    """Result of a stage, and the picture of its curves."""

    result: Path
    curves: Path | None


def run(stage: Pretraining, *, log: Sequence[str] = ()) -> Pretrained:
    """Train a stage to its end, going on where it stopped.

    Raises:
        InputError: see `harness.training.fine_tune`; data that are damaged; a folder that holds another run.
    """
    words = Tokenizer(stage.words) if stage.words else None
    if words:
        words.require_fit(backbones.config(stage.backbone).vocab_size)
    data = stages.read(stage.recipe, stage.sources, words, once=once_per_node)
    identity = stage.identity(data)
    distributed.decided(lambda: _require_same(stage.folder, identity))
    with opened(stage.folder, identity, {}) as work:
        if isinstance(stage.recipe, ClusterRecipe):
            return Pretrained(distributed.decided(lambda: _clustered(stage, data)), None)
        torch.manual_seed(stage.seed)
        model, items, figures = _built(stage, data, words)
        final = work.fine_tuned
        if distributed.decided(final.exists):
            note(f"{stage.recipe.name} is complete: {final}")
        else:
            if stage.weights:
                _load(stage, model)
            _train(stage, model, items, figures, log=log, run=work.run_id)
        result = distributed.decided(lambda: _result(stage, model, final))
        return Pretrained(result, distributed.decided(lambda: pretraining_log.draw(stage.folder)))


def _load(stage: Pretraining, model: BaseModel) -> None:
    """Load the weights that the training begins with; heads that they lack begin at random."""
    if stage.target and not stage.recipe.new_image_head:
        state = weight_files.read(stage.weights)
        tokenizer.require_codes(model.target, stage.target, state=state, weights_file=stage.weights)
    report = weight_files.load(model, stage.weights, new_heads=True)
    note(f"{stage.weights.name}: {report.loaded} tensors, {len(report.fresh)} begin at random")


def _require_same(folder: Path, identity: Mapping[str, Any]) -> None:
    """Refuse to go on with other options or data than a stage began with; nothing began without a checkpoint."""
    file = folder / RUN
    if not (file.is_file() and any(folder.glob(f"{CHECKPOINTS}/*"))):
        return
    with reading(file, "what decides the run", fix="Remove the folder to begin again, or give another --out."):
        before = json.loads(file.read_text(encoding="utf-8"))["identity"]
        changes = [f"{name}: {before.get(name)!r} then, {identity.get(name)!r} now" for name in same(before, identity)]
    if changes:
        raise InputError(
            f"{folder} holds this stage with other options or data ({'; '.join(changes)}). Use the same ones to go on, "
            "give another --out, or remove the folder to begin again."
        )


def _train(
    stage: Pretraining,
    model: BaseModel,
    items: Dataset,
    figures: pretraining_log.Figures,
    *,
    log: Sequence[str],
    run: str,
) -> None:
    recipe = stage.recipe
    kinds = len(items.kinds) if isinstance(recipe, MaskedDataRecipe) else 1
    columns = {
        "pretraining": recipe.name, "recipe_sha256": provenance.recipe_sha256(recipe), "seed": stage.seed,
        "recipe_deviations": "; ".join(recipe.deviations), "train_package": provenance.package(),
    }  # fmt: skip
    watched = PretrainingLog(
        stage.folder,
        figures,
        samples_per_step=recipe.batch_size * kinds,
        flops_per_step=_flops(model, items, recipe),
    )
    figures(model)  # those of the pass that was counted are no part of the training
    fine_tune(
        model,
        items,
        recipe,
        folder=stage.folder / CHECKPOINTS,
        seed=stage.seed,
        log=log,
        columns=columns,
        hooks=[watched],
        run=run,
    )


def _flops(model: BaseModel, items: Dataset, recipe: PretrainingRecipe) -> float:
    """FLOPs of a step, from one small batch of the first items."""
    few = [items[index] for index in range(min(FLOP_SAMPLES, len(items)))]
    batch = getattr(items, "collate", default_collate)(few)
    return step_flops(model, batch) * recipe.batch_size / len(few)


def _built(
    stage: Pretraining, data: stages.Data, words: Tokenizer | None
) -> tuple[BaseModel, Dataset, Callable[[Any], Any]]:
    """Model, items, and what gives the figures of the training."""
    recipe = stage.recipe
    if isinstance(recipe, ContrastiveRecipe):
        model, items = stages.contrastive(recipe, stage.backbone, data, words)
        return model, items, ContrastiveProbe(items)
    if isinstance(recipe, DistillationRecipe):
        teacher = stages.teacher_of(recipe, stage.backbone, *stage.teacher)
        model, items = stages.distillation(recipe, stage.backbone, data, teacher)
    else:
        target = stages.image_target(recipe, stage.backbone, stage.target)
        model, items = stages.masked(recipe, stage.backbone, data, words, target)
    return model, items, lambda model: model.figures()


def _result(stage: Pretraining, model: BaseModel, final: Path) -> Path:
    """The file that the next stage takes; of a distillation the tokenizer without what it was trained with."""
    if not isinstance(stage.recipe, DistillationRecipe):
        return final
    weight_files.load(model, final)
    made = stage.folder / TOKENIZER
    tokenizer.save(model.tokenizer, made, facts={"recipe": stage.recipe.name, "seed": stage.seed})
    return made


def _clustered(stage: Pretraining, data: stages.Data) -> Path:
    teacher = stages.teacher_of(stage.recipe, stage.backbone, *stage.teacher)
    found = stages.features(teacher, data.images, stage.recipe, count=stage.recipe.images)
    target = clusters.fit(teacher, found, stage.recipe, seed=stage.seed)
    made = stage.folder / CLUSTERS
    clusters.save(target, made, backbone=stage.teacher[0])
    return made
