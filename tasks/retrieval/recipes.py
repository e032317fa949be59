"""Recipes of image-text retrieval, fine-tuned and zero-shot."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tasks.common import deviations
from tasks.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class RetrievalRecipe(Recipe):
    """Images are cropped to at least half their area and flipped, as in the official code; no RandAugment."""

    max_tokens: int = 64  # of a text, <s> and </s> included


_OFFICIAL = "unilm beit3/get_started/get_started_for_retrieval.md and the code's defaults"
COCO_RECIPES = {
    # 192 pairs on each of 16 GPUs, 96 on each of 32.
    "base": RetrievalRecipe(
        name="beit3_base_coco_retrieval", source=_OFFICIAL, image_size=384, epochs=15, warmup_epochs=3,
        batch_size=3072, lr=2e-4, layer_decay=0.65, weight_decay=0.05, drop_path=0.2, micro_batch=192,
        checkpoint_activations=True, deviations=deviations.OFFICIAL,
    ),
    "large": RetrievalRecipe(
        name="beit3_large_coco_retrieval", source=_OFFICIAL, image_size=384, epochs=15, warmup_epochs=3,
        batch_size=3072, lr=5e-5, layer_decay=0.85, weight_decay=0.05, drop_path=0.2, micro_batch=96,
        checkpoint_activations=True, deviations=deviations.OFFICIAL,
    ),
    "giant": RetrievalRecipe(
        name="beit3_giant_coco_retrieval", source="arXiv 2208.10442, Table 14, COCO column", image_size=420, epochs=15,
        warmup_epochs=3, batch_size=3072, lr=1e-5, layer_decay=0.95, weight_decay=0.05, drop_path=0.3, micro_batch=48,
        checkpoint_activations=True,
        deviations=(
            *deviations.PAPER, "the paper's batch of 3k is 3,072",
            "no contrastive training on the pretraining pairs goes before, unless the weights had it",
        ),
    ),
    "nano": RetrievalRecipe(
        name="multiway_nano_coco_retrieval", source="ours, for two laptop cores and the toy data", image_size=80,
        steps=80, batch_size=64, lr=5e-4, layer_decay=1.0, weight_decay=0.05, drop_path=0.0,
        clip_grad=3.0, micro_batch=64, workers=1,
    ),
}  # fmt: skip

# What differs from COCO: longer, and for base at half the rate.
_LONGER = {"epochs": 20, "warmup_epochs": 5}
FLICKR30K_RECIPES = {
    "base": replace(COCO_RECIPES["base"], name="beit3_base_flickr30k_retrieval", lr=1e-4, **_LONGER),
    "large": replace(COCO_RECIPES["large"], name="beit3_large_flickr30k_retrieval", **_LONGER),
    "giant": replace(
        COCO_RECIPES["giant"],
        name="beit3_giant_flickr30k_retrieval",
        source="arXiv 2208.10442, Table 14, Flickr30K column",
        **_LONGER,
    ),
    "nano": replace(COCO_RECIPES["nano"], name="multiway_nano_flickr30k_retrieval"),
}

_ITC = "unilm beit3/README.md: the resolution of the released checkpoint beit3_{}_itc_patch16_224.pth"
_CONTRASTIVE = "arXiv 2208.10442, Appendix A: the resolution of the contrastive training on the pretraining pairs"
_ONCE = "each image is encoded once, not once per caption, and recall counts ties by expectation"


def zero_shot(task: str) -> dict[str, RetrievalRecipe]:
    """Recipes that do not train, at the image size of the contrastive checkpoints."""
    return {
        "base": _recipe(f"beit3_base_{task}", _ITC.format("base"), micro_batch=64),
        "large": _recipe(f"beit3_large_{task}", _ITC.format("large"), micro_batch=32),
        "giant": _recipe(f"beit3_giant_{task}", _CONTRASTIVE, micro_batch=16),
        "nano": _recipe(f"multiway_nano_{task}", "ours", image_size=80, micro_batch=64, deviations=()),
    }


def _recipe(
    name: str, source: str, *, micro_batch: int, image_size: int = 224, deviations: tuple[str, ...] = (_ONCE,)
) -> RetrievalRecipe:
    return RetrievalRecipe(
        name=name, source=source, deviations=deviations, image_size=image_size, batch_size=0, lr=0.0, drop_path=0.0,
        micro_batch=micro_batch,
    )  # fmt: skip
