"""The numbers of all recipes against their sources.

`recipes.csv` was transcribed from the sources, not from the recipes: `section` names the part of the facts sheet about
BEiT-3's papers and code (2.1: unilm beit3/get_started; 2.2: arXiv 2208.10442, Tables 12 to 17; 3: the code's inputs and
heads; 6: ViTDet, EVA-01, ViT-Adapter), or the configuration file itself. An empty cell is a number that the source does
not state. `other` has fields of the task's own.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

import tasks
from tasks.recipe import Recipe
from tasks.registry import BUILT_IN

LABELS = ("section", "task", "recipe", "other")
with Path(__file__).with_name("recipes.csv").open(newline="") as file:
    ROWS = list(csv.DictReader(file))


def stated(row: dict[str, str]) -> dict[str, str]:
    """Values by field, as written in the source."""
    other = (entry.strip().split("=") for entry in row["other"].split(";") if entry.strip())
    return {name: text for name, text in row.items() if name not in LABELS and text} | dict(other)


def value(text: str) -> Any:
    if text.startswith("["):
        return tuple(float(number) for number in text.strip("[]").split(",") if number)
    words = {"true": True, "false": False, "none": None}
    try:
        return words[text] if text in words else float(text)
    except ValueError:
        return text


def differs(own: Any, text: str) -> bool:
    official = value(text)
    return own != (pytest.approx(official, rel=1e-5) if isinstance(official, (float, tuple)) else official)


def unnamed(recipe: Recipe, row: dict[str, str]) -> list[str]:
    """Differences that no deviation of the recipe names; one names a field when it has the field's words."""
    told = " ".join(recipe.deviations).lower().replace("_", " ")
    return [
        f"{name}: {getattr(recipe, name)}, source {text}"
        for name, text in stated(row).items()
        if differs(getattr(recipe, name), text) and name.replace("_", " ") not in told
    ]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['task']}-{row['recipe']}")
def test_a_recipe_has_its_sources_numbers_or_names_the_deviation(row: dict[str, str]) -> None:
    assert unnamed(tasks.get(row["task"]).recipes[row["recipe"]], row) == []


def test_every_recipe_that_claims_a_source_is_in_the_table() -> None:
    claimed = [(name, key) for name in BUILT_IN for key in tasks.get(name).recipes if "nano" not in key]
    assert sorted(claimed) == sorted((row["task"], row["recipe"]) for row in ROWS)
    for name in BUILT_IN:
        assert tasks.get(name).recipes["nano"].source.startswith("ours"), name


def test_every_recipe_names_deviations_as_short_phrases() -> None:
    for name, key in ((row["task"], row["recipe"]) for row in ROWS):
        deviations = tasks.get(name).recipes[key].deviations
        assert deviations, (name, key)
        assert len(set(deviations)) == len(deviations), (name, key)
        # A row joins them by "; ".
        assert not any(phrase.endswith(".") or ";" in phrase or len(phrase) > 200 for phrase in deviations), (name, key)


def test_every_recipes_batch_is_a_multiple_of_its_parts() -> None:
    for name in BUILT_IN:
        for key, recipe in tasks.get(name).recipes.items():
            assert recipe.batch_size % recipe.micro_batch == 0, (name, key)


def test_one_rule_for_what_the_paper_does_not_state() -> None:
    """The giant is trained without RandAugment and its like, since the paper names none."""
    giants = [tasks.get(row["task"]).recipes["giant"] for row in ROWS if row["recipe"] == "giant"]
    assert {recipe.rand_augment for recipe in giants if hasattr(recipe, "rand_augment")} == {False}
    imagenet = tasks.get("imagenet").recipes["giant"]
    assert (imagenet.mixup, imagenet.cutmix, imagenet.random_erasing) == (0, 0, 0)
    assert (imagenet.auto_augment, imagenet.color_jitter) == (None, 0)


def test_a_wrong_number_and_only_a_named_deviation_pass() -> None:
    from dataclasses import replace

    recipe = tasks.get("nlvr2").recipes["base"]
    row = next(row for row in ROWS if (row["task"], row["recipe"]) == ("nlvr2", "base"))
    wrong = replace(recipe, layer_decay=0.66, rand_augment=True)
    assert unnamed(wrong, row) == ["layer_decay: 0.66, source .65", "rand_augment: True, source false"]
    named = replace(wrong, deviations=("layer decay 0.66", "rand_augment is on"))
    assert unnamed(named, row) == []
