"""Recipes of visual question answering."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tasks.common import deviations
from tasks.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class VQARecipe(Recipe):
    """Fine-tuning on questions."""

    max_tokens: int = 64  # of a question, <s> and </s> included
    rand_augment: bool = True

    ONLY_TRAINING = (*Recipe.ONLY_TRAINING, "rand_augment")


_OFFICIAL = "unilm beit3/get_started/get_started_for_vqav2.md and the code's defaults"
_HELD_OUT = (
    "the 1,000 held-out images are drawn with a fixed seed, officially with none (those of a vqa.rest_val.jsonl win)"
)
_BASE = VQARecipe(
    name="beit3_base_vqav2", source=_OFFICIAL, image_size=480, epochs=10, warmup_epochs=1, batch_size=128, lr=3e-5,
    head_lr_scale=20.0, weight_decay=0.01, beta2=0.98, drop_path=0.1, micro_batch=16,
    deviations=(*deviations.OFFICIAL, deviations.RAND_AUGMENT, _HELD_OUT),
)  # fmt: skip
_LARGE = replace(
    _BASE, name="beit3_large_vqav2", lr=2e-5, drop_path=0.15, micro_batch=16, checkpoint_activations=True
)  # fmt: skip
_INDOMAIN = "; from the indomain weights (unilm beit3/README.md)"
RECIPES = {
    "base": _BASE,
    "large": _LARGE,
    "base_indomain": replace(_BASE, name="beit3_base_indomain_vqav2", source=_OFFICIAL + _INDOMAIN),
    "large_indomain": replace(_LARGE, name="beit3_large_indomain_vqav2", source=_OFFICIAL + _INDOMAIN),
    "large_768": replace(
        _LARGE,
        name="beit3_large_768_vqav2",
        source="unilm beit3/README.md, VQAv2 table: weights beit3_large_indomain_patch16_768_vgqaaug_vqa.pth",
        image_size=768,
        micro_batch=4,
        deviations=(
            *_LARGE.deviations,
            "numbers of the training are unpublished: those of large at 480 px",
            "training data without the questions from Visual Genome, whose selection is unpublished",
        ),
    ),
    "giant": VQARecipe(
        name="beit3_giant_vqav2", source="arXiv 2208.10442, Table 12, VQAv2 column", image_size=756, epochs=10,
        warmup_epochs=1, batch_size=128, lr=1e-5, layer_decay=1.0, weight_decay=0.01, drop_path=0.4,
        rand_augment=False, micro_batch=2, checkpoint_activations=True,
        deviations=(
            *deviations.PAPER, "the paper states no learning rate of the head's own: that of the rest", _HELD_OUT,
        ),
    ),
    "nano": VQARecipe(
        name="multiway_nano_vqav2", source="ours, for two laptop cores and the toy data", image_size=80, steps=120,
        batch_size=64, lr=5e-4, head_lr_scale=20.0, layer_decay=1.0, weight_decay=0.05, drop_path=0.0, clip_grad=3.0,
        rand_augment=False, micro_batch=64, workers=1,
    ),
}  # fmt: skip
