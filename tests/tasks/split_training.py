"""Three optimizer steps with a batch of 8 in micro-batches: also under torchrun, `python -m … DATA SPM OUT`.

Every case's weights are saved in OUT by the first process.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from harness import distributed
from harness.experiment import plan
from harness.training import fine_tune

# Stochastic depth and mixing; in captioning, groups of samples that are larger and smaller than a micro-batch. With a
# large epsilon Adam's steps are in proportion to the gradients, so that rounding alone makes none.
SHARED = (
    "image_size=16", "epochs=0", "warmup_epochs=0", "steps=3", "batch_size=8", "lr=5e-3", "eps=1e-3", "drop_path=0.5",
    "clip_grad=none", "workers=0",
)  # fmt: skip
CASES = {
    "imagenet": ("mixup=0.8", "cutmix=1.0", "mixup_group=4"),
    "imagenet, timm": (),
    "nlvr2": (),
    "vqav2": (),
    "coco_captioning": ("loss_group=4",),
    "coco_captioning, worst tokens dropped": ("loss_group=4", "drop_worst_after=0", "drop_worst=0.4"),
    "coco_retrieval": (),
    "coco_retrieval, checkpointed": ("checkpoint_activations=true",),
}


def experiment(case: str, data: Path, spm: Path, *changes: str):
    """The run of a case on the data sets under `data`."""
    task = case.partition(",")[0]
    changes = [*SHARED, "precision=fp32", *CASES[case], *changes]
    timm = case.endswith("timm")
    root = data / {"imagenet": "imagenet", "vqav2": "vqa"}.get(task, task)
    backbone, recipe = ("timm/test_vit", "nano") if timm else ("multiway_nano", None)
    return plan(task, backbone=backbone, recipe=recipe, data=root, tokenizer=spm, changes=changes, seed=7)


def train(case: str, data: Path, spm: Path, folder: Path, *changes: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights before and after."""
    run = experiment(case, data, spm, *changes)
    model = run.build_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    items = run.adapter.train_set(run.samples(run.adapter.train_split), run.context)
    fine_tune(model, items, run.recipe, folder=folder, seed=run.seed, log=())
    if distributed.rank() == 0:
        shutil.rmtree(folder)
    return before, model.state_dict()


if __name__ == "__main__":
    data, spm, out = map(Path, sys.argv[1:4])
    distributed.start()
    for number, name in enumerate(CASES):
        micro_batch = 8 // distributed.world_size() // 2
        state = train(name, data, spm, out / "work", f"micro_batch={micro_batch}")[1]
        if distributed.rank() == 0:
            save_file(state, out / f"{number}.safetensors")
        distributed.barrier()
    distributed.end()
