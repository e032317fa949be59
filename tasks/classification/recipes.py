"""Recipes of image classification."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from backbones.errors import UsageError
from tasks.classification.names import prompts
from tasks.common import deviations
from tasks.recipe import Recipe

# RandAugment, AugMix and AutoAugment as timm names them, with sizes that a training could use.
_AUGMENT = re.compile(
    r"(rand|augmix)(-(m([0-9]|[12][0-9]|30)|n[1-9]|w[0-9]|d-?[1-9]|b[01]|a0?\.[0-9]+|p0?\.[0-9]+|inc[01]|t[0-9]{1,2}"
    r"|mstd[0-9]{1,3}(\.[0-9]+)?|mmax[0-9]{1,2}))*|(original|originalr|v0|v0r|3a)(-mstd[0-9]{1,2}(\.[0-9]+)?)?"
)


@dataclass(frozen=True, kw_only=True)
class ImageNetRecipe(Recipe):
    """Augmentation as timm names it."""

    mixup: float = 0.8  # Beta parameter; 0 = off
    cutmix: float = 1.0
    mixup_group: int = 128  # samples that are mixed to the same degree: a GPU's in the official training
    label_smoothing: float = 0.1
    auto_augment: str | None = "rand-m9-mstd0.5-inc1"
    color_jitter: float = 0.4  # without effect beside auto_augment
    random_erasing: float = 0.25
    smallest_crop: float = 0.08  # of the area, in RandomResizedCrop
    crop_pct: float = 1.0
    head: Literal["linear", "names"] = "linear"  # names: two encoders retrieve the class names, as in the paper
    prompt: str = "{}"  # text of a class, {} its name; several are separated by | (training takes the first)
    max_tokens: int = 64  # of a text, <s> and </s> included

    RANGES: ClassVar[Mapping[str, str]] = {
        **Recipe.RANGES, "mixup": "[0, 100]", "cutmix": "[0, 100]", "mixup_group": "[1, 1e6]",
        "label_smoothing": "[0, 1)", "color_jitter": "[0, 10]", "random_erasing": "[0, 1]", "smallest_crop": "(0, 1]",
        "crop_pct": "[0.1, 1]",
    }  # fmt: skip

    ONLY_TRAINING = (
        *Recipe.ONLY_TRAINING, "mixup", "cutmix", "mixup_group", "label_smoothing", "auto_augment", "color_jitter",
        "random_erasing", "smallest_crop",
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mixup_group % 2:
            raise UsageError(f"Recipe field mixup_group is an even number above 0, not {self.mixup_group}.")
        if self.auto_augment is not None and not _AUGMENT.fullmatch(self.auto_augment):
            raise UsageError(
                f"Recipe field auto_augment is a policy as timm writes it, rand-m9-mstd0.5-inc1 for one, not "
                f"{self.auto_augment!r:.60}: m up to 30 is the magnitude, n up to 9 the number of operations."
            )
        if self.head == "names" and (self.mixup or self.cutmix):
            raise UsageError(
                "head=names retrieves one name for each image, and mixup and cutmix make images of two classes: set "
                "both to 0, --set mixup=0 --set cutmix=0."
            )
        if not all("{}" in prompt for prompt in prompts(self.prompt)):
            raise UsageError(
                f"Recipe field prompt has {{}} where a class's name goes, in each text: not {self.prompt!r}."
            )


_PAPER = "arXiv 2208.10442, Table 17, {} column"
_NAMES = (
    "the paper does not say which names an image is compared with in training: those of the classes in its batch",
    "the paper states no augmentation: crops of at least 8% of the area and flips alone",
)
_BORROWED = ("the paper states these numbers for the giant", "the drop path is that of the official linear head")
_DEVIATIONS = (*deviations.OFFICIAL, "augmentation of the installed timm, not of 0.4.12")
_OFFICIAL = "unilm beit3/get_started/get_started_for_image_classification.md and the code's defaults"
RECIPES = {
    "base": ImageNetRecipe(
        name="beit3_base_imagenet", source=_OFFICIAL, image_size=224, epochs=50, warmup_epochs=5, batch_size=1024,
        lr=7e-4, layer_decay=0.65, weight_decay=0.05, drop_path=0.15, micro_batch=64,
        deviations=_DEVIATIONS,
    ),
    "large": ImageNetRecipe(
        name="beit3_large_imagenet", source=_OFFICIAL, image_size=224, epochs=50, warmup_epochs=5, batch_size=1024,
        lr=2e-4, layer_decay=0.8, weight_decay=0.05, drop_path=0.25, micro_batch=32,
        deviations=_DEVIATIONS,
    ),
    "giant": ImageNetRecipe(
        name="beit3_giant_imagenet", source="arXiv 2208.10442, Table 17, ImageNet-1K column", image_size=336,
        epochs=15, warmup_epochs=3, batch_size=2048, lr=3e-5, layer_decay=0.95, weight_decay=0.05, drop_path=0.4,
        mixup=0.0, cutmix=0.0, auto_augment=None, color_jitter=0.0, random_erasing=0.0, micro_batch=8,
        checkpoint_activations=True,
        deviations=(
            "a linear head on the mean of the patches, while the paper retrieves class names with two encoders",
            "no stage on ImageNet-21K goes before, unless the weights had it",
            "the paper states no augmentation: crops of at least 8% of the area and flips alone",
            "the paper's batch of 2k is 2,048", deviations.SCHEDULE,
        ),
    ),
    "nano": ImageNetRecipe(
        name="multiway_nano_imagenet", source="ours, for two laptop cores and the toy data", image_size=80, steps=200,
        batch_size=64, lr=1e-3, layer_decay=1.0, weight_decay=0.05, drop_path=0.0, clip_grad=3.0,
        mixup=0.0, cutmix=0.0, auto_augment=None, color_jitter=0.0, random_erasing=0.0, smallest_crop=0.5,
        label_smoothing=0.1, micro_batch=64, workers=1,
    ),
}  # fmt: skip

_GIANT_NAMES = replace(
    RECIPES["giant"], name="beit3_giant_imagenet_names", head="names", source=_PAPER.format("ImageNet-1K"),
    deviations=(
        *_NAMES, "no stage on ImageNet-21K goes before, unless the weights had it (giant_names_21k)",
        "the paper's batch of 2k is 2,048", deviations.SCHEDULE,
    ),
)  # fmt: skip
_GIANT_NAMES_21K = replace(
    _GIANT_NAMES, name="beit3_giant_imagenet21k_names", source=_PAPER.format("ImageNet-21K"), image_size=224, epochs=50,
    warmup_epochs=5, batch_size=16_384, lr=5e-5, layer_decay=0.85, beta2=0.98, eps=1e-6,
    deviations=(*_NAMES, "the paper's batch of 16k is 16,384", deviations.SCHEDULE),
)  # fmt: skip
RECIPES |= {"giant_names": _GIANT_NAMES, "giant_names_21k": _GIANT_NAMES_21K}
for _size, _drop_path, _part in (("base", 0.15, 64), ("large", 0.25, 32)):
    _own = {"drop_path": _drop_path, "micro_batch": _part, "checkpoint_activations": False}
    for _key, _recipe in (("names", _GIANT_NAMES), ("names_21k", _GIANT_NAMES_21K)):
        RECIPES[f"{_size}_{_key}"] = replace(
            _recipe, name=_recipe.name.replace("giant", _size), deviations=(*_BORROWED, *_recipe.deviations), **_own
        )
RECIPES["nano_names"] = replace(
    RECIPES["nano"], name="multiway_nano_imagenet_names", head="names", prompt="a picture of a {}", lr=5e-4
)
