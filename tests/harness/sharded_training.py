"""Twenty optimizer steps of small models, sharded where there are several processes; also under torchrun.

    python -m tests.harness.sharded_training DATA SPM OUT CASES CHECKPOINT

The first process leaves in OUT each case's weights, its losses over all processes, and a copy of the folder with the
checkpoint after the tenth step. In OUT/resumed it leaves those of a training that goes on from the folder CHECKPOINT.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseModel
from safetensors.torch import save_file
from torch.utils.data import Dataset

from backbones.tokenizer import Tokenizer
from harness import checkpoint, distributed, loop
from harness.experiment import plan
from harness.training import fine_tune
from tasks.pretraining import sources, stages, targets
from tasks.pretraining.recipes import RECIPES
from tasks.recipe import Recipe, changed

BACKBONE = "multiway_nano+layers=2+dim=42+heads=3+ffn_dim=90"  # nothing that four processes divide evenly
STEPS, HALF = 20, 10
# With a large epsilon Adam's steps are in proportion to the gradients, so that rounding alone makes none.
SHARED = (
    f"steps={STEPS}", "epochs=0", "warmup_epochs=0", "warmup_steps=2", "batch_size=4", "micro_batch=1", "lr=1e-3",
    "eps=1e-3", "clip_grad=0.5", "workers=0", "precision=fp32", "shard=true",
)  # fmt: skip
CASES = {
    "masked": ("image_size=32", "image_target=pixels", "text_length=16", "drop_path=0.2"),
    "vqav2": (
        "image_size=16", "ema_decay=0.8", "layer_decay=0.7", "checkpoint_activations=true", "drop_path=0.2",
    ),
    "coco_retrieval": ("image_size=16",),
    "coco_detection": ("image_size=32", "masks=false", "head_channels=16", "window=2", "roi_batch=512"),
}  # fmt: skip
DETECTION, RESUMED = "coco_detection", "vqav2"


def built(case: str, data: Path, spm: Path) -> tuple[BaseModel, Dataset, Recipe]:
    """Model, training items and recipe of a case, from the data sets under `data`."""
    if case == "masked":
        return _masked(data / "pretraining", spm)
    changes = [*SHARED, *CASES[case]]
    root = data / {"vqav2": "vqa", DETECTION: "coco"}.get(case, case)
    run = plan(case, backbone=BACKBONE, weights="none", data=root, tokenizer=spm, changes=changes, seed=7)
    model = run.build_model()
    if case == DETECTION:
        # No proposals are drawn, since each process would draw others, and few are kept. Which ones hangs on the last
        # bits of their scores, so these are computed finely.
        model.net.rpn_head.sampler.num = 1 << 12
        model.net.train_cfg.rpn_proposal.max_per_img = 8
        model.double().register_forward_pre_hook(_in_double, with_kwargs=True)
        for module in model.modules():
            module._forward_hooks.clear()  # which make the heads compute in float32
    return model, run.adapter.train_set(run.samples(run.adapter.train_split), run.context), run.recipe


def _in_double(model: BaseModel, args: tuple, options: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    for sample in options["data_samples"]:
        sample.gt_instances.bboxes = sample.gt_instances.bboxes.double()
    return args, options | {"inputs": options["inputs"].double()}


def _masked(data: Path, spm: Path) -> tuple[BaseModel, Dataset, Recipe]:
    recipe, words = changed(RECIPES["nano_masked"], [*SHARED, *CASES["masked"]]), Tokenizer(spm)
    torch.manual_seed(7)
    read = stages.read(recipe, sources.under(data), words)
    return *stages.masked(recipe, BACKBONE, read, words, targets.PixelTarget(8)), recipe


def train(case: str, data: Path, spm: Path, out: Path, *, go_on: Path | None = None) -> None:
    """Leave in `out` CASE.safetensors, CASE.json with the losses, and CASE/ with the checkpoint after `HALF` steps.

    Args:
        go_on: a folder with a checkpoint.
    """
    model, items, recipe = built(case, data, spm)
    out.mkdir(exist_ok=True)
    work, losses = out / "work", []
    if go_on and distributed.rank() == 0:
        shutil.copytree(go_on, work)
    distributed.barrier()
    optimizer_step, save, due = loop.optimizer_step, checkpoint.save, checkpoint.due

    def told(*args: Any, **options: Any) -> dict[str, float]:
        values = optimizer_step(*args, **options)
        each = distributed.from_all(values["loss"])
        losses.append(sum(each) / len(each))
        return values

    def kept(path: Path, state: Any, progress: Any) -> None:
        save(path, state, progress)
        if distributed.rank() == 0:
            shutil.copytree(path.parent, out / case, ignore=shutil.ignore_patterns("log"))

    loop.optimizer_step, checkpoint.save = told, kept
    checkpoint.due = lambda step, **_: step == HALF
    try:
        fine_tune(model, items, recipe, folder=work, seed=7, log=())
    finally:
        loop.optimizer_step, checkpoint.save, checkpoint.due = optimizer_step, save, due
    if distributed.rank() == 0:
        save_file(model.state_dict(), out / f"{case}.safetensors")
        (out / f"{case}.json").write_text(json.dumps(losses))
        shutil.rmtree(work)
    distributed.barrier()


if __name__ == "__main__":
    data, spm, out, chosen, checkpoints = sys.argv[1:]
    distributed.start()
    for case in chosen.split(","):
        train(case, Path(data), Path(spm), Path(out))
    train(RESUMED, Path(data), Path(spm), Path(out, "resumed"), go_on=Path(checkpoints))
    distributed.end()
