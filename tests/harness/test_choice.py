"""Names of backbones, weights and recipes: what is chosen, what is told, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

import tasks
from backbones import UsageError
from harness.choice import agreed_size, choose, named_size
from harness.experiment import plan
from tasks.recipe import Recipe

# The files of unilm beit3/README.md with the backbone (`--model`) that the official instructions evaluate them with.
RELEASED = {
    "imagenet": {
        "beit3_base_patch16_224_in1k.pth": ("beit3_base_patch16_224", "base", 224),
        "beit3_base_indomain_patch16_224_in1k.pth": ("beit3_base_patch16_224", "base", 224),
        "beit3_large_patch16_224_in1k.pth": ("beit3_large_patch16_224", "large", 224),
        "beit3_large_indomain_patch16_224_in1k.pth": ("beit3_large_patch16_224", "large", 224),
    },
    "vqav2": {
        "beit3_base_patch16_480_vqa.pth": ("beit3_base_patch16_480", "base", 480),
        "beit3_base_indomain_patch16_480_vqa.pth": ("beit3_base_patch16_480", "base_indomain", 480),
        "beit3_large_patch16_480_vqa.pth": ("beit3_large_patch16_480", "large", 480),
        "beit3_large_indomain_patch16_480_vqa.pth": ("beit3_large_patch16_480", "large_indomain", 480),
        "beit3_large_indomain_patch16_768_vgqaaug_vqa.pth": ("beit3_large_patch16_768", "large_768", 768),
    },
    "nlvr2": {
        "beit3_base_patch16_224_nlvr2.pth": ("beit3_base_patch16_224", "base", 224),
        "beit3_base_indomain_patch16_224_nlvr2.pth": ("beit3_base_patch16_224", "base_indomain", 224),
        "beit3_large_patch16_224_nlvr2.pth": ("beit3_large_patch16_224", "large", 224),
        "beit3_large_indomain_patch16_224_nlvr2.pth": ("beit3_large_patch16_224", "large_indomain", 224),
    },
    "coco_captioning": {
        "beit3_base_patch16_480_coco_captioning.pth": ("beit3_base_patch16_480", "base", 480),
        "beit3_base_indomain_patch16_480_coco_captioning.pth": ("beit3_base_patch16_480", "base_indomain", 480),
        "beit3_large_patch16_480_coco_captioning.pth": ("beit3_large_patch16_480", "large", 480),
    },
    "nocaps": {
        "beit3_base_patch16_480_nocaps.pth": ("beit3_base_patch16_480", "base", 480),
        "beit3_base_indomain_patch16_480_nocaps.pth": ("beit3_base_patch16_480", "base_indomain", 480),
        "beit3_large_patch16_480_nocaps.pth": ("beit3_large_patch16_480", "large", 480),
    },
    "coco_retrieval": {
        "beit3_base_patch16_384_coco_retrieval.pth": ("beit3_base_patch16_384", "base", 384),
        "beit3_large_patch16_384_coco_retrieval.pth": ("beit3_large_patch16_384", "large", 384),
    },
    "flickr30k_retrieval": {
        "beit3_base_patch16_384_f30k_retrieval.pth": ("beit3_base_patch16_384", "base", 384),
        "beit3_large_patch16_384_f30k_retrieval.pth": ("beit3_large_patch16_384", "large", 384),
    },
    "coco_zero_shot": {
        "beit3_base_itc_patch16_224.pth": ("beit3_base_patch16_224", "base", 224),
        "beit3_large_itc_patch16_224.pth": ("beit3_large_patch16_224", "large", 224),
    },
    "flickr30k_zero_shot": {
        "beit3_base_itc_patch16_224.pth": ("beit3_base_patch16_224", "base", 224),
        "beit3_large_itc_patch16_224.pth": ("beit3_large_patch16_224", "large", 224),
    },
}


def agreed(task: str, backbone: str, recipe: Recipe, *, by_hand: bool = False) -> tuple[str, ...]:
    return agreed_size(backbone, recipe, by_hand=by_hand, recipes=tasks.get(task).recipes)


@pytest.mark.parametrize("task", RELEASED)
def test_every_released_file_takes_its_recipe_at_its_size(task: str) -> None:
    adapter = tasks.get(task)
    for file, (backbone, key, size) in RELEASED[task].items():
        recipe, _ = choose(adapter, backbone=backbone, weights=Path("weights") / file, given=None)
        assert recipe is adapter.recipes[key], file
        assert recipe.image_size == size == named_size(backbone), file
        assert agreed(task, backbone, recipe) == (), file


def test_in_domain_weights_take_their_recipe_and_say_so() -> None:
    adapter, weights = tasks.get("nlvr2"), Path("beit3_large_indomain_patch16_224.pth")
    recipe, told = choose(adapter, backbone="beit3_large_patch16_224", weights=weights, given=None)
    assert (recipe.name, recipe.lr) == ("beit3_large_indomain_nlvr2", 1e-4)
    assert len(told) == 1
    assert "--recipe large)" in told[0]


@pytest.mark.parametrize(
    ("weights", "given", "other"),
    [
        ("beit3_base_indomain_patch16_224.pth", "base", "base_indomain"),
        ("beit3_base_patch16_224.pth", "base_indomain", "base"),
        ("beit3_base_indomain_patch16_224.pth", "base_indomain", None),
        ("beit3_base_patch16_224.pth", "base", None),
        ("final.safetensors", "base_indomain", None),
        (None, "base_indomain", None),
    ],
)
def test_an_explicit_recipe_is_taken_and_a_contradiction_told(
    weights: str | None, given: str, other: str | None
) -> None:
    path = weights and Path(weights)
    recipe, told = choose(tasks.get("nlvr2"), backbone="beit3_base_patch16_224", weights=path, given=given)
    assert recipe is tasks.get("nlvr2").recipes[given]
    assert [text.partition("--recipe ")[2] for text in told] == ([f"{other})"] if other else [])


def test_the_name_of_a_folder_says_nothing() -> None:
    weights = Path("all_indomain_models") / "beit3_base_patch16_224.pth"
    recipe, told = choose(tasks.get("nlvr2"), backbone="beit3_base_patch16_224", weights=weights, given=None)
    assert (recipe.name, told) == ("beit3_base_nlvr2", ())


def test_the_size_in_a_backbones_name() -> None:
    assert named_size("beit3_giant_patch14_224") == 224
    assert named_size("multiway_nano") is None
    assert named_size("timm/vit_base_patch16_384") is None  # timm models take any size or refuse it themselves


def test_fine_tuning_from_the_pretraining_size_is_told() -> None:
    (told,) = agreed("vqav2", "beit3_base_patch16_224", tasks.get("vqav2").recipes["base"])
    assert "480 px, as recipe beit3_base_vqav2 says" in told


@pytest.mark.parametrize(
    ("task", "backbone", "recipe", "ways"),
    [
        (
            "vqav2",
            "beit3_large_patch16_768",
            "large",
            ["--backbone beit3_large_patch16_480", "--set image_size=768", "--recipe large_768"],
        ),
        ("vqav2", "beit3_base_patch16_768", "base", ["--backbone beit3_base_patch16_480", "--set image_size=768"]),
        ("imagenet", "beit3_base_patch16_384", "base", ["--backbone beit3_base_patch16_224", "--set image_size=384"]),
        ("coco_detection", "beit3_base_patch16_480", "base", ["--backbone beit3_base_patch16_224"]),
    ],
)
def test_another_size_than_the_names_is_refused_with_the_ways_out(
    task: str, backbone: str, recipe: str, ways: list[str]
) -> None:
    chosen = tasks.get(task).recipes[recipe]
    with pytest.raises(UsageError) as error:
        agreed(task, backbone, chosen)
    assert all(way in str(error.value) for way in ways)
    assert ("--recipe" in str(error.value)) == any("--recipe" in way for way in ways)
    (told,) = agreed(task, backbone, chosen, by_hand=True)
    assert f"{chosen.image_size} px, as --set image_size says" in told


def test_a_plan_refuses_and_accepts_what_is_said_by_hand(tmp_path: Path) -> None:
    options = {"backbone": "beit3_base_patch16_384", "data": tmp_path, "weights": __file__}
    with pytest.raises(UsageError, match="image_size=384"):
        plan("imagenet", **options)
    assert plan("imagenet", **options, changes=["image_size=384"]).notices == ()
    # The recipe's own value, given by hand, alters nothing and is a decision all the same.
    by_hand = plan("imagenet", **options, changes=["image_size=224"])
    assert (by_hand.altered, len(by_hand.notices)) == ((), 1)
