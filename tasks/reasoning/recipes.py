"""Recipes of visual reasoning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tasks.common import deviations
from tasks.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class NLVR2Recipe(Recipe):
    """Fine-tuning on sentences about two images."""

    max_tokens: int = 64  # tokens, <s> and </s> counted
    rand_augment: bool = False

    ONLY_TRAINING = (*Recipe.ONLY_TRAINING, "rand_augment")


_OFFICIAL = "unilm beit3/get_started/get_started_for_nlvr2.md and the code's defaults"


def _official(name: str, **numbers: Any) -> NLVR2Recipe:
    shared = {
        "image_size": 224,
        "epochs": 20,
        "warmup_epochs": 5,
        "batch_size": 256,
        "weight_decay": 0.2,
        "drop_path": 0.2,
        "deviations": deviations.OFFICIAL,
    }
    return NLVR2Recipe(name=f"beit3_{name}_nlvr2", source=_OFFICIAL, **shared, **numbers)


RECIPES = {
    "base": _official("base", lr=7e-4, layer_decay=0.65, micro_batch=32),
    "base_indomain": _official("base_indomain", lr=5e-4, layer_decay=0.65, micro_batch=32),
    "large": _official("large", lr=3e-4, layer_decay=0.85, micro_batch=16),
    "large_indomain": _official("large_indomain", lr=1e-4, layer_decay=0.85, micro_batch=16),
    "giant": NLVR2Recipe(
        name="beit3_giant_nlvr2", source="arXiv 2208.10442, Table 12, NLVR2 column", image_size=224, epochs=20,
        warmup_epochs=5, batch_size=256, lr=1e-3, layer_decay=0.8, weight_decay=0.05, drop_path=0.4, micro_batch=8,
        checkpoint_activations=True, deviations=deviations.PAPER,
    ),
    "nano": NLVR2Recipe(
        name="multiway_nano_nlvr2", source="ours, for two laptop cores and the toy data", image_size=80, steps=40,
        batch_size=64, lr=5e-4, weight_decay=0.05, drop_path=0.0, clip_grad=3.0, micro_batch=64,
        workers=1,
    ),
}  # fmt: skip
