from __future__ import annotations

import pytest

import backbones
from backbones.errors import UsageError
from tasks.pretraining import recipes
from tasks.pretraining.recipe import MaskedDataRecipe, PretrainingRecipe


@pytest.mark.parametrize("size", ["base", "large"])
def test_the_masked_stage_has_the_paper_s_numbers(size: str) -> None:
    """arXiv 2208.10442, Table 11 and section 2.3; a batch of 6,144 is 2,048 of each kind of data."""
    made = recipes.get(f"{size}_masked")
    assert (made.steps, made.warmup_steps, made.batch_size, len(made.kinds)) == (1_000_000, 10_000, 2048, 3)
    assert (made.lr, made.beta1, made.beta2, made.eps, made.weight_decay) == (1e-3, 0.9, 0.98, 1e-6, 0.05)
    assert (made.drop_path, made.clip_grad, made.image_size, made.color_jitter) == (0.1, 3.0, 224, 0.4)
    assert (made.image_mask_ratio, made.text_mask_ratio, made.pair_mask_ratio) == (0.4, 0.15, 0.5)
    masking = made.image_masking(16)
    assert (masking.count, masking.smallest_block) == (78, 16)


@pytest.mark.parametrize("size", ["base", "large"])
def test_the_contrastive_stage_has_the_paper_s_numbers(size: str) -> None:
    """arXiv 2208.10442, Appendix A."""
    made = recipes.get(f"{size}_contrastive")
    assert (made.epochs, made.warmup_epochs, made.batch_size, made.lr) == (5, 1, 16_384, 3e-5)
    assert (made.weight_decay, made.drop_path, made.layer_decay, made.image_size) == (0.05, 0.3, 0.95, 224)
    assert made.starts_from == f"{size}_masked"


@pytest.mark.parametrize("recipe", recipes.RECIPES.values(), ids=list(recipes.RECIPES))
def test_every_stage_fits_its_backbone(recipe: PretrainingRecipe) -> None:
    config = backbones.config(recipes.backbone(recipe.name))
    assert recipe.image_size == config.image_size
    assert recipe.starts_from in ("", *recipes.RECIPES)
    assert recipe.kinds
    if isinstance(recipe, MaskedDataRecipe):
        assert recipe.pair_masks(config.patch_size).image.count > 0
        assert max(recipe.text_length, recipe.max_tokens) <= config.max_text_positions - 2


def test_stages_of_a_size_are_found_by_name() -> None:
    assert recipes.stage("nano_masked", "tokenizer") == "nano_tokenizer"
    with pytest.raises(UsageError, match="nano_masked"):
        recipes.get("nano_maskd")
