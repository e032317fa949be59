"""Recipes of image classification."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from backbones.errors import UsageError
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
        name="multiway_nano_imagenet", source="ours, for two laptop cores and the toy data", image_size=64, epochs=12,
        warmup_epochs=1, batch_size=64, lr=1.5e-3, layer_decay=1.0, weight_decay=0.05, drop_path=0.0, clip_grad=3.0,
        mixup=0.0, cutmix=0.0, auto_augment=None, color_jitter=0.0, random_erasing=0.0, smallest_crop=0.5,
        label_smoothing=0.1, micro_batch=64, workers=1,
    ),
}  # fmt: skip
