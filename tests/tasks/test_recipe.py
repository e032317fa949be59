from __future__ import annotations

from dataclasses import replace

import pytest

from backbones import UsageError
from harness.experiment import plan
from harness.provenance import recipe_sha256
from tasks.classification.recipes import RECIPES
from tasks.recipe import PLACEMENT, Recipe, changed

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
        ("name=mine", "Unknown recipe field 'name'"),
        ('deviations=["none"]', "Unknown recipe field 'deviations'"),
        ("lr=fast", "lr is a number"),
        ("epochs=2.5", "epochs is a whole number"),
        ("epochs=true", "epochs is a whole number"),
        ("precision=fp8", "precision"),
        ("epochs=-1", "not be less than 0"),
        ("batch_size=0", "batch_size must be more than 0"),
        ("milestones=[0.5, 90]", "between 0 and 1"),
        ("schedule=linear", "Unknown value of schedule"),
    ],
)
def test_wrong_changes_are_told(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        changed(BASE, [text])


def test_a_recipe_without_length_does_not_train() -> None:
    recipe = changed(BASE, ["epochs=0", "lr=0"])
    assert not recipe.trains
    assert BASE.trains


def test_placement_is_no_alteration() -> None:
    recipe = changed(BASE, ["micro_batch=8", "workers=0", "checkpoint_activations=true", "lr=1e-3"])
    assert recipe.differs_from(BASE) == ["lr"]


def test_what_a_recipe_says_about_itself_decides_nothing() -> None:
    told = replace(BASE, source="elsewhere", deviations=("no drop_last",))
    assert told.differs_from(BASE) == []
    assert told.deciding() == BASE.deciding()
    assert recipe_sha256(told) == recipe_sha256(BASE)


def test_the_hash_leaves_placement_out_and_holds_all_else() -> None:
    placed = changed(BASE, ["micro_batch=8", "workers=0", "checkpoint_activations=true"])
    assert recipe_sha256(placed) == recipe_sha256(BASE)
    assert recipe_sha256(changed(BASE, ["crop_pct=0.9"])) != recipe_sha256(BASE)
    # Two recipes may have the same numbers, for two sets of weights.
    assert recipe_sha256(replace(BASE, name="other")) != recipe_sha256(BASE)
    assert not set(PLACEMENT) & set(BASE.deciding())


STEPS = replace(BASE, epochs=0, warmup_epochs=0, steps=80_000, warmup_steps=1_600)
MIXED = replace(BASE, warmup_epochs=0, warmup_steps=250)


@pytest.mark.parametrize(
    ("recipe", "changes", "lengths"),
    [
        (BASE, ["epochs=0"], (0, 0, 0, 0)),
        (BASE, ["epochs=1"], (1, 0, 0, 0)),
        (BASE, ["epochs=3"], (3, 0, 0, 0)),
        (BASE, ["epochs=10"], (10, 5, 0, 0)),
        (BASE, ["epochs=3", "warmup_epochs=1"], (3, 1, 0, 0)),
        (BASE, ["steps=100"], (0, 0, 100, 10)),
        (BASE, ["steps=100", "warmup_epochs=0", "warmup_steps=7"], (0, 0, 100, 7)),
        (BASE, ["lr=1"], (50, 5, 0, 0)),
        (STEPS, ["epochs=0"], (0, 0, 0, 0)),
        (STEPS, ["epochs=9"], (9, 0, 0, 1_600)),
        (STEPS, ["steps=100"], (0, 0, 100, 2)),
        (STEPS, ["steps=40000"], (0, 0, 40_000, 1_600)),
        (MIXED, ["steps=100"], (0, 0, 100, 10)),
        (MIXED, ["epochs=1"], (1, 0, 0, 250)),
    ],
)
def test_a_new_length_brings_the_warmup_along(recipe: Recipe, changes: list[str], lengths: tuple[int, ...]) -> None:
    found = changed(recipe, changes)
    assert (found.epochs, found.warmup_epochs, found.steps, found.warmup_steps) == lengths


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["steps=100", "epochs=2"], "epochs=2 and steps=100 are two lengths"),
        (["epochs=3", "warmup_epochs=5"], "warmup_epochs=5 is more than epochs=3"),
        (["steps=100", "warmup_steps=200", "warmup_epochs=0"], "warmup_steps=200 is more than steps=100"),
    ],
)
def test_lengths_that_contradict_each_other_are_told(changes: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        changed(BASE, changes)


def test_what_follows_from_a_length_is_an_alteration_and_is_named() -> None:
    run = plan("imagenet", backbone="multiway_nano", data=".", changes=["steps=24"])
    assert run.altered == ("epochs", "warmup_epochs", "steps", "warmup_steps")
    assert "The length given implies epochs=0, warmup_epochs=0, warmup_steps=2" in run.notices
    assert (run.recipe.steps, run.recipe.warmup_steps) == (24, 2)
