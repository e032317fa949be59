from __future__ import annotations

import pytest

from backbones import UsageError
from tasks.imagenet import RECIPES
from tasks.recipe import changed

BASE = RECIPES["base"]


def test_values_are_read_as_the_fields_types() -> None:
    recipe = changed(BASE, ["lr=1", "epochs=9", "clip_grad=none", "auto_augment=None", "precision=fp32"])
    assert (recipe.lr, recipe.epochs, recipe.clip_grad, recipe.auto_augment) == (1.0, 9, None, None)
    assert isinstance(recipe.lr, float)
    assert changed(BASE, ["clip_grad=3"]).clip_grad == 3.0
    assert changed(BASE, ["auto_augment=rand-m7"]).auto_augment == "rand-m7"
    assert changed(BASE, ["checkpoint_activations=true"]).checkpoint_activations is True


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("weight_deccay=0.1", "weight_decay"),
        ("lr", "key=value"),
        ("lr=fast", "lr is a number"),
        ("epochs=2.5", "epochs is a whole number"),
        ("epochs=true", "epochs is a whole number"),
        ("precision=fp16", "precision"),
        ("epochs=-1", "not be less than 0"),
        ("batch_size=0", "batch_size must be more than 0"),
        ("steps=100", "epochs=50 and steps=100 are two lengths"),
        ("milestones=[0.5, 90]", "between 0 and 1"),
        ("schedule=linear", "Unknown value of schedule"),
        ("epochs=3", "warmup_epochs=5 is more than epochs=3"),
    ],
)
def test_wrong_changes_are_told(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        changed(BASE, [text])


def test_a_recipe_without_length_does_not_train() -> None:
    recipe = changed(BASE, ["epochs=0", "warmup_epochs=0", "lr=0"])
    assert not recipe.trains
    assert BASE.trains


def test_placement_is_no_alteration() -> None:
    recipe = changed(BASE, ["micro_batch=8", "workers=0", "checkpoint_activations=true", "lr=1e-3"])
    assert recipe.differs_from(BASE) == ["lr"]
