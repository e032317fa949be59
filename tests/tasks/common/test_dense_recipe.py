from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from mmengine.model import BaseModel

import backbones
from backbones import UsageError
from tasks.common.dense_recipe import DenseRecipe
from tasks.recipe import changed
from tests.tasks.detection import test_model as test_detector
from tests.tasks.segmentation import test_model as test_segmenter

IMAGENET = {"pixel_mean": (0.485, 0.456, 0.406), "pixel_std": (0.229, 0.224, 0.225)}


def segmenter(backbone: torch.nn.Module, recipe: DenseRecipe) -> BaseModel:
    from tasks.segmentation.model import Segmenter

    return Segmenter(backbone, classes=3, recipe=recipe)


def detector(backbone: torch.nn.Module, recipe: DenseRecipe) -> BaseModel:
    from tasks.detection.model import Detector

    return Detector(backbone, classes=[1, 2], recipe=recipe)


@pytest.mark.parametrize(
    ("make", "recipe", "batch"),
    [
        (segmenter, test_segmenter.UPERNET, test_segmenter.batch),
        (detector, test_detector.RECIPE, test_detector.batch),
    ],
    ids=["segmenter", "detector"],
)
def test_pixels_are_normalised_by_the_backbones_numbers_or_the_recipes(
    make: Callable, recipe: DenseRecipe, batch: Callable
) -> None:
    for name, changes, mean, std in (
        ("multiway_nano", {}, (0.5,) * 3, (0.5,) * 3),
        ("multiway_nano", IMAGENET, *IMAGENET.values()),
        ("timm/deit_tiny_patch16_224", {}, *IMAGENET.values()),
        ("timm/deit_tiny_patch16_224", {"pixel_mean": (0.5,) * 3}, (0.5,) * 3, IMAGENET["pixel_std"]),
    ):
        backbone = backbones.build(name, image_size=recipe.image_size)
        model = make(backbone, dataclasses.replace(recipe, **changes))
        for training in (False, True):
            data = batch((64, 64))
            (pixels,) = data["inputs"]
            expected = (pixels / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
            if not training:
                data["inputs"] = [data["inputs"]]  # one view
                data["data_samples"] = [data["data_samples"]]
            found = model.data_preprocessor(data, training)["inputs"][0]
            found = found if training else found[0]
            torch.testing.assert_close(found.flatten(), expected.flatten())


@pytest.mark.parametrize("text", ["pixel_mean=[0.5,0.5]", "pixel_mean=[127.5,127.5,127.5]", "pixel_std=[0.0,0.5,0.5]"])
def test_numbers_that_are_no_pixels_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="a number from 0 to 1 for red, green and blue"):
        changed(test_segmenter.UPERNET, [text])
