"""Recipes of captioning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from tasks.common import deviations
from tasks.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class CaptioningRecipe(Recipe):
    """Training on masked words, and how captions are searched."""

    max_tokens: int = 32  # tokens in training, <s> and </s> counted
    mask_probability: float = 0.7
    label_smoothing: float = 0.1
    drop_worst: float = 0.2  # share of the masked tokens
    drop_worst_after: int = 12_000  # steps
    loss_group: int = 32  # samples whose masked tokens are averaged and cut together: a GPU's in the official training
    rand_augment: bool = True
    beams: int = 3
    length_penalty: float = 0.6
    caption_length: int = 64  # longest caption that is searched, in tokens

    RANGES: ClassVar[Mapping[str, str]] = {
        **Recipe.RANGES, "mask_probability": "(0, 1]", "label_smoothing": "[0, 1)",
        "drop_worst": "[0, 1)", "loss_group": "[1, 1e6]", "beams": "[1, 100]", "length_penalty": "[0, 10]",
        "caption_length": "[3, 512]",
    }  # fmt: skip

    ONLY_TRAINING = (
        *Recipe.ONLY_TRAINING, "max_tokens", "mask_probability", "label_smoothing", "drop_worst", "drop_worst_after",
        "loss_group", "rand_augment",
    )  # fmt: skip


_OFFICIAL = "unilm beit3/get_started/get_started_for_captioning.md and the code's defaults"


def _official(name: str, **numbers: Any) -> CaptioningRecipe:
    return CaptioningRecipe(
        name=f"beit3_{name}", source=_OFFICIAL, image_size=480, epochs=10, warmup_epochs=1, batch_size=256,
        weight_decay=0.05, drop_path=0.1, deviations=(*deviations.OFFICIAL, deviations.RAND_AUGMENT), **numbers,
    )  # fmt: skip


COCO_RECIPES = {
    "base": _official("base_coco_captioning", lr=4e-5, micro_batch=16),
    "base_indomain": _official("base_indomain_coco_captioning", lr=4e-5, micro_batch=16),
    "large": _official("large_coco_captioning", lr=8e-6, micro_batch=8),
    "large_indomain": _official("large_indomain_coco_captioning", lr=8e-6, micro_batch=8),
    "giant": CaptioningRecipe(
        name="beit3_giant_coco_captioning", source="arXiv 2208.10442, Table 13", image_size=392, steps=16_000,
        warmup_steps=1_600, batch_size=256, lr=8e-6, weight_decay=0.01, drop_path=0.3, mask_probability=0.6,
        drop_worst=0.0, rand_augment=False, micro_batch=2, checkpoint_activations=True,
        deviations=(
            *deviations.PAPER, "the paper states no leaving out of the worst tokens: none (--set drop_worst=0.2)",
            "the paper states no length penalty and no longest caption: 0.6 and 64 tokens as in the released code",
        ),
    ),
    "nano": CaptioningRecipe(
        name="multiway_nano_coco_captioning", source="ours, for two laptop cores and the toy data", image_size=80,
        steps=80, batch_size=64, lr=1e-3, drop_path=0.0, clip_grad=3.0, rand_augment=False,
        max_tokens=64, micro_batch=64, workers=1,
    ),
}  # fmt: skip

# All but base and base_indomain (1e-5) are fine-tuned as for COCO.
_GIANT = COCO_RECIPES["giant"]
_OWN = {
    "base": {"lr": 1e-5},
    "base_indomain": {"lr": 1e-5},
    "giant": {
        "deviations": (*_GIANT.deviations, "the paper states nothing for NoCaps: its numbers of COCO captioning")
    },
}
NOCAPS_RECIPES = {
    size: replace(recipe, name=recipe.name.replace("coco_captioning", "nocaps"), **_OWN.get(size, {}))
    for size, recipe in COCO_RECIPES.items()
}
