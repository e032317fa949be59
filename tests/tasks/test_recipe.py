from __future__ import annotations

from dataclasses import fields, replace

import pytest

from backbones import UsageError
from harness.experiment import plan
from harness.provenance import recipe_sha256
from tasks import get, names
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
    run = plan("imagenet", backbone="beit3_base_patch16_224", data=".", changes=["steps=24"])
    assert run.altered == ("epochs", "warmup_epochs", "steps", "warmup_steps")
    assert "The length given implies epochs=0, warmup_epochs=0, warmup_steps=2" in run.notices
    assert (run.recipe.steps, run.recipe.warmup_steps) == (24, 2)


NO_TRAINING = (
    *(f"{name}=NaN" for name in ("lr", "beta2", "ema_decay", "mixup", "crop_pct", "drop_path", "layer_decay", "min_lr",
                                 "label_smoothing")),
    "lr=1e30", "lr=-1", "lr=0", "lr=Infinity", "workers=-1", "beta1=1", "beta1=2", "eps=-1", "eps=0", "drop_path=2",
    "drop_path=-1", "drop_path=1", "layer_decay=-1", "layer_decay=0", "layer_decay=1.5", "weight_decay=-5",
    "clip_grad=-1", "clip_grad=0", "ema_decay=2", "ema_decay=-1", "ema_decay=1", 'milestones=["a"]', "milestones=3",
    "label_smoothing=9", "label_smoothing=-1", "label_smoothing=1", "mixup=-1", "cutmix=1e30", "smallest_crop=-1",
    "smallest_crop=0", "smallest_crop=5", "auto_augment=rubbish", "auto_augment=rand-m9999-n99999", "color_jitter=-4",
    "image_size=100000", "image_size=1", "crop_pct=0", "crop_pct=-1", "crop_pct=1e-9", "min_lr=9", "random_erasing=7",
    "micro_batch=99999999999999999999", "batch_size=99999999999999999999", "epochs=99999999999999999999",
    "lr=" + "9" * 5000, "lr=1" + "0" * 400, "image_size=224.0", "seed=3", "mixup_group=3", "validate=-1",
    "validate_limit=0", "workers=100000", "milestones=" + "[" * 100_000,
)  # fmt: skip


@pytest.mark.parametrize("text", NO_TRAINING, ids=lambda text: text[:40])
def test_values_that_no_training_could_use_are_refused_when_the_recipe_is_made(text: str) -> None:
    with pytest.raises(UsageError, match=text.partition("=")[0]):
        changed(BASE, [text])


@pytest.mark.parametrize("values", [{"lr": "1"}, {"epochs": True}, {"epochs": 2.0}, {"precision": "fp8"},
                                    {"milestones": [0.5]}, {"clip_grad": "none"}, {"lr": 10**400}])  # fmt: skip
def test_values_of_another_type_are_refused_in_python_too(values: dict) -> None:
    (name,) = values
    with pytest.raises(UsageError, match=f"Recipe field {name} is"):
        replace(BASE, **values)


def test_policies_of_timm_are_known() -> None:
    for policy in ("rand-m9-mstd0.5-inc1", "rand-m7", "rand-n3-m15-w0", "augmix-m5-w4-d2", "original", "3a", "v0r"):
        assert changed(BASE, [f"auto_augment={policy}"]).auto_augment == policy


@pytest.mark.parametrize("task", names())
def test_every_number_of_every_recipe_is_checked(task: str) -> None:
    """NaN and a number beyond all others are refused in each field that takes one, of each kind of recipe."""
    for recipe in {type(each): each for each in get(task).recipes.values() if each.trains}.values():
        for field in fields(recipe):
            value = getattr(recipe, field.name)
            if type(value) in (int, float):
                for wrong in (float("nan"), -1e15, 1e15, -(10**15), 10**15):
                    with pytest.raises(UsageError, match=field.name):
                        replace(recipe, **{field.name: wrong})
