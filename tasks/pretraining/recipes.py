"""The stages of pretraining by name: `harness pretrain NAME`.

Our own chain, from nothing: `nano_teacher` → `nano_tokenizer` → `nano_masked` → `nano_contrastive`. Base and large have
the paper's numbers and go on from official weights or begin at random.
"""

from __future__ import annotations

from dataclasses import replace

from backbones.errors import unknown
from tasks.pretraining.recipe import (
    ClusterRecipe,
    ContrastiveRecipe,
    DistillationRecipe,
    MaskedDataRecipe,
    PretrainingRecipe,
)

_PAPER = "arXiv 2208.10442, Table 11 and section 2.3"
_ITC = "arXiv 2208.10442, Appendix A"
_VQKD = "unilm beit2/TOKENIZER.md: vqkd_encoder_base_decoder_3x768x12_clip"
_OURS = "ours, for a laptop core and the toy data"

_MASKED = MaskedDataRecipe(
    name="base_masked", source=_PAPER, image_size=224, steps=1_000_000, warmup_steps=10_000, batch_size=2048, lr=1e-3,
    min_lr=0.0, beta2=0.98, eps=1e-6, weight_decay=0.05, drop_path=0.1, clip_grad=3.0, micro_batch=32,
    deviations=(
        "the paper states these numbers for the giant", "the paper states no last rate of the cosine: 0",
        "images alone and in pairs are cropped to at least half their area, which the paper does not state",
    ),
)  # fmt: skip
_CONTRASTIVE = ContrastiveRecipe(
    name="base_contrastive", source=_ITC, starts_from="base_masked", image_size=224, epochs=5, warmup_epochs=1,
    batch_size=16_384, lr=3e-5, weight_decay=0.05, drop_path=0.3, layer_decay=0.95, micro_batch=128,
    deviations=("the paper states these numbers for the giant", "the paper's batch of 16k is 16,384"),
)  # fmt: skip
_TOKENIZER = DistillationRecipe(
    name="base_tokenizer", source=_VQKD, image_size=224, epochs=100, warmup_epochs=10, batch_size=512, lr=5e-5,
    min_lr=1e-5, beta2=0.99, weight_decay=1e-4, drop_path=0.0, micro_batch=64,
    deviations=("codes that nothing chooses begin elsewhere (--set revive_below=0: they stay)",),
)  # fmt: skip

_NANO_TEACHER = ContrastiveRecipe(
    name="nano_teacher", source=_OURS, image_size=80, pair_files="captions*", steps=2_000, warmup_steps=60,
    batch_size=64, lr=1e-3, weight_decay=0.05, drop_path=0.0, clip_grad=3.0, smallest_crop=0.8, max_tokens=22,
    micro_batch=64, workers=1,
)  # fmt: skip

RECIPES: dict[str, PretrainingRecipe] = {
    recipe.name: recipe
    for recipe in (
        _NANO_TEACHER,
        DistillationRecipe(
            name="nano_tokenizer", source=_OURS, image_size=80, steps=400, warmup_steps=20, batch_size=32, lr=1e-3,
            beta2=0.99, weight_decay=1e-4, drop_path=0.0, clip_grad=3.0, codes=256, code_dim=16, encoder_layers=4,
            decoder_layers=1, smallest_crop=0.5, micro_batch=32, workers=1,
        ),
        ClusterRecipe(
            name="nano_clusters", source=_OURS, image_size=80, batch_size=64, lr=1e-3, codes=256, images=4096,
            micro_batch=64, workers=1,
        ),
        MaskedDataRecipe(
            name="nano_masked", source=_OURS, starts_from="nano_teacher", image_size=80, steps=3_000, warmup_steps=100,
            batch_size=32, lr=1e-3, beta2=0.98, eps=1e-6, weight_decay=0.05, drop_path=0.0, clip_grad=3.0,
            text_length=32, max_tokens=22, smallest_crop=0.8, color_jitter=0.0, micro_batch=32, workers=1,
            deviations=("begins with the teacher's weights, to save the time of a laptop",),
        ),
        replace(
            _NANO_TEACHER, name="nano_contrastive", starts_from="nano_masked", steps=600, warmup_steps=30, lr=5e-4
        ),
        _TOKENIZER,
        _MASKED,
        _CONTRASTIVE,
        replace(_MASKED, name="large_masked", micro_batch=16, checkpoint_activations=True),
        replace(
            _CONTRASTIVE, name="large_contrastive", starts_from="large_masked", micro_batch=64,
            checkpoint_activations=True,
        ),
    )
}  # fmt: skip

BACKBONES = {"nano": "multiway_nano", "base": "beit3_base_patch16_224", "large": "beit3_large_patch16_224"}


def get(name: str) -> PretrainingRecipe:
    """A stage by name.

    Raises:
        UsageError: there is none; the message has the nearest names.
    """
    if name not in RECIPES:
        raise unknown("pretraining recipe", name, RECIPES)
    return RECIPES[name]


def backbone(recipe: str) -> str:
    """The backbone that a recipe is for, by the size in its name."""
    return BACKBONES[recipe.partition("_")[0]]


def stage(recipe: str, kind: str) -> str:
    """The name of another stage of the same size, such as the tokenizer's of `nano_masked`."""
    return f"{recipe.partition('_')[0]}_{kind}"
