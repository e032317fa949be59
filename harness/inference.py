"""Prediction of every sample of a split once, with any number of processes and interruptions."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.model import BaseModel

from backbones.linear import packed
from harness import distributed
from harness.cores import loader_workers
from harness.device import autocast, device, prediction_precision
from harness.loading import Unbroken, eval_loader
from harness.predictions import PredictionWriter, done, merge
from harness.progress import bar
from tasks.adapter import Sample
from tasks.recipe import Recipe


@dataclass(frozen=True)
class Predicted:
    """Result of a prediction; seconds and samples are those of this call, fewer after an interruption."""

    path: Path
    seconds: float
    samples: int


def predict(
    model: BaseModel,
    items: torch.utils.data.Dataset,
    samples: Sequence[Sample],
    recipe: Recipe,
    *,
    target: Path,
    title: str | None = "predict",
) -> Predicted:
    """Predict the samples that are not predicted yet, and complete the file `target`.

    Batches are fixed slices of the split, and processes share whole batches: a sample is always computed in the
    same batch, so the records do not depend on how the work was divided.

    Args:
        title: of the progress bar; None for no bar.
    """
    parts = target.with_suffix("")
    ids = [sample.id for sample in samples]
    began = time.monotonic()
    have = distributed.decided(lambda: _have(target, parts))
    if have is None:
        return Predicted(target, 0.0, 0)
    size = recipe.micro_batch
    slices = [range(first, min(first + size, len(ids))) for first in range(0, len(ids), size)]
    todo = [part for part in slices if any(ids[index] not in have for index in part)]
    mine = todo[distributed.rank() :: distributed.world_size()]
    where = device()
    model.to(where).eval()
    loader = eval_loader(items, mine, workers=loader_workers(recipe.workers))
    writer = PredictionWriter(parts, rank=distributed.rank())
    try:
        with (
            bar(title, len(todo), done=0) as shown,
            torch.inference_mode(),
            packed(model),
            autocast(prediction_precision(recipe, where), where),
        ):
            batches = Unbroken(loader)
            for part, batch in zip(mine, batches, strict=True):
                data = model.data_preprocessor(batch)
                records = model(**data, mode="predict")
                rows = zip(part, records, strict=True)
                writer.append({"id": ids[index], **record} for index, record in rows if ids[index] not in have)
                shown.advance(distributed.world_size(), "batches")
    finally:
        writer.close()
    distributed.barrier()
    distributed.decided(lambda: merge(parts, target, ids))
    return Predicted(target, time.monotonic() - began, sum(len(part) for part in todo))


def _have(target: Path, parts: Path) -> set[str] | None:
    """Ids that were predicted before; None when the split is complete."""
    if target.exists():
        return None
    return done(parts) if parts.is_dir() else set()
