"""How segmenters are fine-tuned: UPerNet, or Mask2Former with a ViT-Adapter, on a plain backbone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from backbones.errors import UsageError
from tasks.dense_recipe import DenseRecipe


@dataclass(frozen=True, kw_only=True)
class SegmentationRecipe(DenseRecipe):
    """Fine-tuning on crops of `image_size` × `image_size`; images that are smaller are padded by the model.

    Multi-scale results ("MS") come from the `_ms` recipes, which differ in `tta_ratios` and `tta_flip` only:
    `harness predict ade20k --recipe large_ms --weights final.safetensors`.
    """

    head: Literal["upernet", "mask2former"]
    head_channels: int
    head_dropout: float = 0.1  # before UPerNet's last layer
    norm: Literal["BN", "GN"] = "BN"  # in UPerNet's head; batch statistics are those of all GPUs
    scale: tuple[int, int]  # images fit into this before the random ratio: longer and shorter side, pixels
    ratio_range: tuple[float, float] = (0.5, 2.0)
    cat_max_ratio: float = 0.75  # largest share of a crop that one class should take
    schedule: Literal["cosine", "poly", "step"] = "poly"
    inference: Literal["slide", "whole"] = "slide"  # windows of image_size × image_size, or the image in one piece
    stride: int  # of the windows, pixels
    tta_ratios: tuple[float, ...] = (1.0,)  # test sizes as multiples of `scale`, their predictions averaged
    tta_flip: bool = False  # each size mirrored too

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = {
            "scale": len(self.scale) != 2 or not all(isinstance(side, int) and side > 0 for side in self.scale),
            "ratio_range": len(self.ratio_range) != 2 or not 0 < self.ratio_range[0] <= self.ratio_range[1],
            "cat_max_ratio": not 0 < self.cat_max_ratio <= 1,
            "stride": not 0 < self.stride <= self.image_size,
            "tta_ratios": not self.tta_ratios or not all(ratio > 0 for ratio in self.tta_ratios),
        }
        for name, wrong in problems.items():
            if wrong:
                raise UsageError(f"Recipe field {name} cannot be {getattr(self, name)}: {_ALLOWED[name]}.")
        if self.head == "upernet" and self.norm == "BN" and self.micro_batch == 1:
            raise UsageError(
                "UPerNet's batch normalisation needs two crops at least in each process: its coarsest map is one "
                "pixel. Take --set micro_batch=2, or --set norm=GN, which changes the result."
            )

    @property
    def split_alters(self) -> bool:
        """True with batch statistics, with Mask2Former's losses (normalised within a micro-batch) and with dropout."""
        return self.head == "mask2former" or self.norm == "BN" or self.head_dropout > 0


_ALLOWED = {
    "scale": "two sides in whole pixels, as in --set scale=[2048,512]",
    "ratio_range": "the smallest and the largest ratio, as in --set ratio_range=[0.5,2.0]",
    "cat_max_ratio": "a share, more than 0 and at most 1",
    "stride": "from 1 to image_size, as windows further apart would leave gaps",
    "tta_ratios": "ratios above 0, as in --set tta_ratios=[0.75,1.0,1.25]",
}
_VIT_ADAPTER = "ViT-Adapter mask2former_beitv2_adapter_large_896_80k_ade20k_ss.py"
_BEIT2 = "unilm beit2 upernet_beit_{}_512_slide_160k_ade20k.py"


def _mask2former(name: str, **numbers: Any) -> SegmentationRecipe:
    shared = {
        "head": "mask2former",
        "head_channels": 1024,
        "image_size": 896,
        "scale": (3584, 896),
        "stride": 512,
        "steps": 80_000,
        "warmup_steps": 1_500,
        "batch_size": 16,
        "start_lr": 1e-6 * numbers["lr"],
        "weight_decay": 0.05,
        "checkpoint_activations": True,
    }
    return SegmentationRecipe(name=f"beit3_{name}_ade20k", **shared, **numbers)


def _upernet(name: str, **numbers: Any) -> SegmentationRecipe:
    shared = {
        "head": "upernet",
        "image_size": 512,
        "scale": (2048, 512),
        "stride": 341,
        "head_channels": _WIDTHS[name],
        "steps": 160_000,
        "warmup_steps": 1_500,
        "batch_size": 16,
        "start_lr": 1e-6 * numbers["lr"],
        "weight_decay": 0.05,
    }
    return SegmentationRecipe(
        name=f"beit3_{name}_upernet_ade20k", source=_BEIT2.format(f"{name}_{_LAYERS[name]}"), **shared, **numbers
    )


def _multi_scale(recipe: SegmentationRecipe, sides: Sequence[int], source: str) -> SegmentationRecipe:
    return dataclasses.replace(
        recipe,
        name=f"{recipe.name}_ms",
        source=f"{recipe.source}; test sizes {source}",
        tta_ratios=tuple(side / recipe.image_size for side in sides),
        tta_flip=True,
    )


_LAYERS = {"base": 12, "large": 24}
_WIDTHS = {"base": 768, "large": 1024}
_BASE = _mask2former(
    "base", source=f"{_VIT_ADAPTER}; drop path {_BEIT2.format('base_12')}", lr=2e-5, layer_decay=0.9, drop_path=0.15,
    micro_batch=2,
)  # fmt: skip
_LARGE = _mask2former("large", source=_VIT_ADAPTER, lr=2e-5, layer_decay=0.9, drop_path=0.3, micro_batch=1)
# The paper follows ViT-Adapter; Table 15 has the numbers that differ.
_GIANT = _mask2former(
    "giant", source="arXiv 2208.10442, Table 15; the rest ViT-Adapter's", lr=1e-5, layer_decay=0.95, drop_path=0.5,
    micro_batch=1,
)  # fmt: skip
_MS_VIT_ADAPTER = ((800, 832, 864, 896), "mask2former_beitv2_adapter_large_896_80k_ade20k_ms.py")
_MS_EVA = ((512, 640, 768, 896, 1024, 1152, 1280), "EVA-01's")
RECIPES = {
    "base": _BASE,
    "base_ms": _multi_scale(_BASE, *_MS_VIT_ADAPTER),
    "base_upernet": _upernet("base", lr=5e-5, layer_decay=0.75, drop_path=0.15, micro_batch=8),
    "large": _LARGE,
    "large_ms": _multi_scale(_LARGE, *_MS_VIT_ADAPTER),
    "large_upernet": _upernet("large", lr=4e-5, layer_decay=0.9, drop_path=0.2, micro_batch=4),
    "giant": _GIANT,
    "giant_ms": _multi_scale(_GIANT, *_MS_EVA),
    "nano": SegmentationRecipe(
        name="multiway_nano_ade20k", source="ours, for two laptop cores and the toy data", head="upernet",
        head_channels=64, head_dropout=0.0, norm="GN", image_size=128, scale=(512, 128), ratio_range=(0.75, 1.33),
        stride=86, epochs=6, warmup_epochs=1, batch_size=16, lr=1e-3, weight_decay=0.05, drop_path=0.0, clip_grad=3.0,
        micro_batch=16, workers=1,
    ),
}  # fmt: skip
