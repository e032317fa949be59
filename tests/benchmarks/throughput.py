"""Samples per second of whole training steps and predictions, from image files on disk, task by task.

The pictures are drawn by `harness toy` (480 pixels, 960 and 1,440 for the dense tasks) and augmented as in the recipe
of the official size; --backbone and --recipe say what computes. "loader" is what the loader workers alone give, "train"
and "predict" what whole steps do, and "waited %" how much of a step's time there was no batch to go on with: where that
is much, more workers (--workers) or a faster disk help. The first step, in which workers start, is not counted.

    python -m tests.benchmarks.throughput --tasks imagenet vqav2 --backbone multiway_nano
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

import tasks
from backbones.linear import packed
from harness.cores import loader_workers
from harness.device import autocast, device, precision, prediction_precision
from harness.experiment import Experiment, plan
from harness.loading import TrainBatches, Unbroken, eval_loader, train_loader
from harness.loop import optimizer_step
from harness.optim import ScaledOptimizer, adamw
from tasks import toy
from tests.benchmarks.report import Report, arguments, surroundings

TASKS = ("imagenet", "vqav2", "nlvr2", "coco_captioning", "coco_retrieval", "ade20k", "coco_detection")
FOLDERS = {"imagenet": "imagenet", "nlvr2": "nlvr2", "ade20k": "ade20k"}  # the others are in coco
SEED = 0


def measure(
    names: Sequence[str],
    *,
    backbone: str,
    recipe: str,
    image_size: int,
    scale: float,
    steps: int,
    workers: int | None,
    changes: Sequence[str],
) -> Report:
    rows = []
    with tempfile.TemporaryDirectory(prefix="multiway-throughput-") as folder:
        wanted = dict.fromkeys(FOLDERS.get(name, "coco") for name in names)
        toy.write(folder, tasks=wanted, scale=scale, image_size=image_size)
        for name in names:
            experiment = plan(name, backbone=backbone, data=folder, out="unused", recipe=recipe, changes=changes)
            rows.append(_task(experiment, steps=steps, workers=loader_workers(workers)))
    return Report(title=f"Samples per second, {backbone}, recipe {recipe}: {surroundings(device())}", rows=rows)


def _task(experiment: Experiment, *, steps: int, workers: int) -> dict[str, Any]:
    adapter, recipe, where = experiment.adapter, experiment.recipe, device()
    model = experiment.build_model().to(where)
    train = adapter.train_set(experiment.samples(adapter.train_split), experiment.context)
    test = adapter.eval_set(experiment.samples(experiment.splits[0]), experiment.context)
    size = min(recipe.micro_batch, len(train))
    optimizer = ScaledOptimizer(adamw(model, recipe), precision=precision(recipe.precision, where), device=where)

    def training_batches() -> Unbroken:
        batches = TrainBatches(len(train), micro=size, accumulation=1, seed=SEED, rank=0, world_size=1)
        return Unbroken(train_loader(train, batches, workers=workers, seed=SEED))

    def step(batch: Any) -> None:
        optimizer_step(model, iter([batch]), optimizer, step=0, parts=1, micro_batch=size, seed=SEED)

    @torch.inference_mode()
    def predict(batch: Any) -> None:
        with autocast(prediction_precision(recipe, where), where):
            model(**model.data_preprocessor(batch), mode="predict")

    places = [[index % len(test) for index in range(n * size, (n + 1) * size)] for n in range(steps + 1)]
    alone, _ = _rate(training_batches(), lambda batch: None, steps=steps, size=size)
    model.train()
    trained, waited = _rate(training_batches(), step, steps=steps, size=size)
    model.eval()
    with packed(model):
        predicted, idle = _rate(Unbroken(eval_loader(test, places, workers=workers)), predict, steps=steps, size=size)
    return {
        "task": adapter.name, "pixels": recipe.image_size, "batch": size, "workers": workers, "loader": alone,
        "train": trained, "waited %": waited, "predict": predicted, "waited % ": idle,
    }  # fmt: skip


def _rate(batches: Unbroken, use: Callable[[Any], None], *, steps: int, size: int) -> tuple[float, float]:
    """Samples per second, and the percentage of the time in which a batch was waited for."""
    use(next(batches))
    _finished()
    began, before = time.monotonic(), batches.waited
    for _ in range(steps):
        use(next(batches))
    _finished()
    seconds = time.monotonic() - began
    return steps * size / seconds, 100 * (batches.waited - before) / seconds


def _finished() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main(argv: Sequence[str] | None = None) -> int:
    parser = arguments(__doc__)
    parser.add_argument("--tasks", nargs="+", choices=[name for name in TASKS if name in tasks.names()], default=TASKS)
    parser.add_argument("--backbone", default="multiway_nano")
    parser.add_argument("--recipe", default="base")
    parser.add_argument("--image-size", type=int, default=480, help="of the drawn pictures")
    parser.add_argument("--scale", type=float, default=0.1, help="of the number of drawn pictures")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--workers", type=int, help="loader workers; by default what a run has")
    parser.add_argument("--set", dest="changes", action="append", default=[], help="as `harness run` has it")
    args = parser.parse_args(argv)
    with contextlib.redirect_stdout(sys.stderr):
        report = measure(
            args.tasks,
            backbone=args.backbone,
            recipe=args.recipe,
            image_size=args.image_size,
            scale=args.scale,
            steps=args.steps,
            workers=args.workers,
            changes=args.changes,
        )
    return report.show(args.json)


if __name__ == "__main__":
    sys.exit(main())
