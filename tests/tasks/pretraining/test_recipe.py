from __future__ import annotations

import pytest

import backbones
from backbones.errors import UsageError
from tasks.pretraining.recipe import MaskedDataRecipe


def recipe(**fields: object) -> MaskedDataRecipe:
    return MaskedDataRecipe(name="test", source="test", image_size=64, batch_size=8, lr=1e-3, **fields)


@pytest.mark.parametrize(
    ("image", "text", "kinds", "sides"),
    [
        ("both", "both", ("images", "texts", "pairs"), ("image", "text")),
        ("mono", "mono", ("images", "texts"), ()),  # table (c)
        ("multi", "multi", ("pairs",), ("image", "text")),
        ("both", "none", ("images", "pairs"), ("image",)),  # table (e)
        ("both", "mono", ("images", "texts", "pairs"), ("image",)),
        ("both", "multi", ("images", "pairs"), ("image", "text")),
        ("none", "both", ("texts", "pairs"), ("text",)),  # table (f)
        ("mono", "both", ("images", "texts", "pairs"), ("text",)),
        ("multi", "both", ("texts", "pairs"), ("image", "text")),
    ],
)
def test_each_row_of_the_ablations_has_its_data_and_masks(image: str, text: str, kinds: tuple, sides: tuple) -> None:
    made = recipe(image_reconstruction=image, text_reconstruction=text)
    assert made.kinds == kinds
    assert made.pair_modalities == sides


def test_a_recipe_that_reconstructs_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="nothing is left to learn"):
        recipe(image_reconstruction="none", text_reconstruction="none")


def test_the_standard_transformer_has_one_set_of_weights() -> None:
    options = recipe(transformer="standard").backbone_options()
    names = backbones.skeleton("multiway_nano", **options).state_dict()
    assert not any({"A", "B"} & set(name.split(".")) for name in names if "embed_positions" not in name)
    multiway = backbones.skeleton("multiway_nano", **recipe().backbone_options()).state_dict()
    assert any({"A", "B"} & set(name.split(".")) for name in multiway if "embed_positions" not in name)


def test_masks_follow_the_recipe() -> None:
    made = recipe(image_mask_ratio=0.25, pair_mask_ratio=0.3, pair_masking="joint", smallest_block=0.2)
    masks = made.pair_masks(8)
    assert (masks.image.grid, masks.image.count, masks.image.smallest_block) == (8, 16, 13)
    assert (masks.text.ratio, masks.joint) == (0.3, True)
    assert made.text_masking().ratio == 0.15


@pytest.mark.parametrize("fields", [{"max_tokens": 2}, {"text_length": 1}, {"smallest_crop": 0.0}])
def test_values_out_of_range_are_refused(fields: dict) -> None:
    with pytest.raises(UsageError, match=next(iter(fields))):
        recipe(**fields)
