"""Recipe fields that detection and segmentation share."""

from __future__ import annotations

from dataclasses import dataclass

from backbones.errors import UsageError
from tasks.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class DenseRecipe(Recipe):
    """Fine-tuning of a backbone with a dense head.

    Pixels are normalised as (pixel - mean) / std. Without values here they are the backbone's own: 0.5 for Multiway,
    those of the pretraining for a timm model. (ViT-Adapter, detectron2 and EVA have ImageNet's,
    [0.485,0.456,0.406] and [0.229,0.224,0.225], whatever the backbone.)
    """

    checks_overflow = False  # dense heads take the maps as they are: prediction is in the precision of training

    pixel_mean: tuple[float, ...] | None = None  # of red, green and blue in 0..1
    pixel_std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("pixel_mean", 0.0), ("pixel_std", 1e-6)):
            values = getattr(self, name)
            if values is not None and (len(values) != 3 or not all(least <= value <= 1 for value in values)):
                raise UsageError(
                    f"Recipe field {name} has a number from 0 to 1 for red, green and blue each, as in --set "
                    f"{name}=[0.5,0.5,0.5]: not {list(values)}."
                )
