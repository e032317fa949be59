"""Fine-tuning: the recipe's batches and schedule, the training, and the file that it ends in."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseModel
from safetensors.torch import load_file

from backbones import weights
from backbones.errors import InputError
from backbones.files import reading
from harness import distributed, provenance
from harness.batch import accumulation, require_enough
from harness.cores import loader_workers
from harness.loading import TrainBatches, train_loader
from harness.loop import StepHook, train
from harness.optim import recipe_schedule
from harness.progress import note
from harness.validation import Validation
from harness.workdir import FINAL, remove_checkpoints
from tasks.recipe import Recipe


def fine_tune(
    model: BaseModel,
    items: torch.utils.data.Dataset,
    recipe: Recipe,
    *,
    folder: Path,
    seed: int,
    log: Sequence[str],
    columns: Mapping[str, Any] | None = None,
    validation: Validation | None = None,
    hooks: Sequence[StepHook] = (),
    run: str = "",
) -> Path:
    """Train until the recipe's end, going on from `folder/last.pth` when it is there; returns the weights' path.

    The result is `FINAL` in `folder`, under the names of the official checkpoints; the averaged weights
    when the recipe has an EMA, and those that validated best when it says keep=best.

    Args:
        log: "tensorboard" and "wandb" for these besides the local log file.
        columns: columns about the training for rows made with the weights, besides those known here.
        validation: scores during the training, as often as the recipe says.
        hooks: called after the steps that they ask for, after the validation.
        run: random name of the run, whose checkpoint alone is resumed.

    Raises:
        InputError: NaN loss, unreadable images, no space.
        UsageError: a batch that does not fit.
    """
    processes = distributed.world_size()
    require_enough(recipe, samples=len(items), processes=processes)
    parts = accumulation(recipe, processes=processes)
    batches = TrainBatches(
        len(items),
        micro=recipe.micro_batch,
        accumulation=parts,
        seed=seed,
        rank=distributed.rank(),
        world_size=processes,
    )
    rates = recipe_schedule(recipe, steps_per_epoch=batches.steps_per_epoch)
    note(
        f"Effective batch {recipe.batch_size} = {recipe.micro_batch} per process × {processes} process(es) × "
        f"{parts} accumulation step(s); {len(rates)} steps, {batches.steps_per_epoch} an epoch"
    )
    workers = loader_workers(recipe.workers)

    def micro_batches(start: int) -> Iterable[Any]:
        batches.start = start
        return train_loader(items, batches, workers=workers, seed=seed)

    trained = train(
        model,
        micro_batches,
        recipe,
        rates=rates,
        steps_per_epoch=batches.steps_per_epoch,
        folder=folder,
        seed=seed,
        log=log,
        hooks=(*([validation] if validation else ()), *hooks),
        run=run,
    )
    gc.collect()  # the optimizer's memory, and the threads of gradient averaging
    known, kept = {**(columns or {}), **trained}, None
    if validation and recipe.keep == "best":
        kept, known["selected"] = validation.best, validation.choice
    distributed.decided(lambda: save_final(model, folder, known, kept=kept))
    return folder / FINAL


def save_final(model: BaseModel, folder: Path, columns: Mapping[str, Any], *, kept: Path | None = None) -> None:
    """Save the result of a training, the weights of the model or those in the file `kept`; removes the checkpoint.

    Args:
        columns: columns about the training for rows made with the weights.

    Raises:
        InputError: the file cannot be written.
    """
    path = folder / FINAL
    try:
        state = model.state_dict()
        if kept:
            with reading(kept, "best weights so far", fix="Remove the run's folder to begin again."):
                state, columns = load_file(kept), {**columns, "train_steps": int(weights.metadata(kept)["step"])}
        weights.save(state, path, metadata=provenance.stored(columns))
    except OSError as error:
        raise InputError(
            f"The trained weights {path} cannot be written ({error}). Free some space and run the same command again."
        ) from error
    # The optimizer's state has done its work; it is twice the size of the weights.
    remove_checkpoints(folder)
    if kept:
        kept.unlink()
