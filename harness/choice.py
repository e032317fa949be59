"""Choice of the recipe, and agreement of its image size with the backbone's.

The names of backbones and of released weights say which images they are for (`beit3_large_patch16_480`) and which
pretraining they had (`beit3_base_indomain_patch16_224.pth`). A recipe that disagrees is an error or is reported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import backbones
from backbones.config import CHANGE
from backbones.errors import UsageError, unknown
from tasks.adapter import TaskAdapter
from tasks.recipe import Recipe

PRETRAINING_SIZE = 224  # pixels, of all released pretrained weights; fine-tuning resizes their positions
INDOMAIN = "_indomain"


def choose(
    adapter: TaskAdapter, *, backbone: str, weights: Path | None, given: str | None
) -> tuple[Recipe, tuple[str, ...]]:
    """Choose the recipe of a run; returns it with notices for the user.

    Args:
        given: key of the recipe that the user asked for; when None, the names of backbone and weights decide: their
            family, the variant for that image size and the one for in-domain pretraining, where the task has them.

    Raises:
        UsageError: the task has no such recipe.
    """
    family, recipes = backbones.family(backbone), adapter.recipes
    sized = f"{family}_{named_size(backbone)}"
    indomain = weights is not None and INDOMAIN in weights.name
    if given is not None:
        return _named(adapter, given), _variant_notices(recipes, given, weights)
    if sized in recipes:
        return recipes[sized], (f"Recipe {sized}, which is for the image size in the name {backbone}",)
    if indomain and family + INDOMAIN in recipes:
        notice = (
            f"Recipe {family + INDOMAIN}, as {weights.name} has in-domain pretraining (otherwise: --recipe {family})"
        )
        return recipes[family + INDOMAIN], (notice,)
    return _named(adapter, family), ()


def _named(adapter: TaskAdapter, key: str) -> Recipe:
    if key not in adapter.recipes:
        raise unknown(f"recipe of {adapter.name}", key, adapter.recipes)
    return adapter.recipes[key]


def _variant_notices(recipes: Mapping[str, Recipe], given: str, weights: Path | None) -> tuple[str, ...]:
    """Notice for a given recipe whose counterpart fits the pretraining of the weights."""
    other = given.removesuffix(INDOMAIN) if given.endswith(INDOMAIN) else given + INDOMAIN
    released = weights is not None and weights.name.startswith("beit3_")  # any other name says nothing of pretraining
    if not released or other not in recipes or (INDOMAIN in weights.name) == given.endswith(INDOMAIN):
        return ()
    pretraining = "in-domain" if INDOMAIN in weights.name else "plain"
    return (f"Recipe {given}, as asked for, though {weights.name} has {pretraining} pretraining (--recipe {other})",)


def named_size(backbone: str) -> int | None:
    """Image size in pixels from the name of a Multiway backbone; None where the name has no size."""
    found = re.search(r"_patch\d+_(\d+)$", backbone.partition(CHANGE)[0])
    return int(found[1]) if found and not backbone.startswith(backbones.TIMM) else None


def agreed_size(backbone: str, recipe: Recipe, *, by_hand: bool, recipes: Mapping[str, Recipe]) -> tuple[str, ...]:
    """Check that recipe and backbone agree on the image size; returns notices for the user.

    Args:
        by_hand: the user gave the size of this recipe.
        recipes: those of the task, for the suggestions in the message.

    Raises:
        UsageError: the recipe has another size than the backbone's name says, and the user did not ask for it. Names of
            the pretraining's size are no error: fine-tuning goes from there to the recipe's.
    """
    named, size = named_size(backbone), recipe.image_size
    if named is None or named == size:
        return ()
    if by_hand or named == PRETRAINING_SIZE:
        whose = "--set image_size" if by_hand else f"recipe {recipe.name}"
        return (f"Images of {size} px, as {whose} says; the name {backbone} says {named} px",)
    stem = backbone.partition(CHANGE)[0].removesuffix(str(named))
    fitting = next(name for name in (f"{stem}{size}", f"{stem}{PRETRAINING_SIZE}") if name in backbones.names())
    ways = [f"--backbone {fitting} to use the recipe's size", f"--set image_size={named} to use the backbone's"]
    ways += [f"--recipe {key}" for key, other in recipes.items() if other.image_size == named and _same(key, backbone)]
    raise UsageError(
        f"{backbone} is named after images of {named} px, and recipe {recipe.name} is for {size} px: with positions "
        f"resized unasked, scores would not be those of either. Say which: {', or '.join(ways)}."
    )


def _same(key: str, backbone: str) -> bool:
    """Check that a recipe is for the backbone's family."""
    return key.split("_")[0] == backbones.family(backbone)
