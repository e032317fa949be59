"""Recipes of semantic segmentation: UPerNet, or Mask2Former with a ViT-Adapter, on a plain backbone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from backbones.errors import UsageError
from tasks.common.dense_recipe import DenseRecipe


@dataclass(frozen=True, kw_only=True)
class SegmentationRecipe(DenseRecipe):
    """Fine-tuning on crops of `image_size` × `image_size`; images that are smaller are padded by the model.

    Multi-scale results ("MS") come from the `_ms` recipes, which differ in `tta_ratios` and `tta_flip` only:
    `harness predict ade20k --recipe large_ms --weights final.safetensors`.

    `base` and `large` start from image-level weights. `large_cocostuff` is a stage on COCO-Stuff-164k, as a folder in
    ADE20K's layout, and `large_stuff` the one on ADE20K that goes on from its weights.

    Batch normalisation makes a training depend on how many crops are normalised together: `micro_batch` times the
    number of processes, 16 in the sources. `--set adapter_norm=group` (or `norm=GN` for UPerNet) looks at each crop
    alone.
    """

    head: Literal["upernet", "mask2former"]
    head_channels: int
    head_dropout: float = 0.1  # before UPerNet's last layer
    layers: tuple[int, ...] | None = None  # whose four maps UPerNet takes; None: the last of each quarter
    norm: Literal["BN", "GN"] = "BN"  # in UPerNet's head; batch statistics are those of all GPUs
    adapter_norm: Literal["batch", "group"] = "batch"  # in the ViT-Adapter; batch statistics are those of all GPUs
    scale: tuple[int, int]  # images fit into this before the random ratio: longer and shorter side, pixels
    ratio_range: tuple[float, float] = (0.5, 2.0)
    cat_max_ratio: float = 0.75  # largest share of a crop that one class should take
    schedule: Literal["cosine", "poly", "step"] = "poly"
    inference: Literal["slide", "whole"] = "slide"  # windows of image_size × image_size, or the image in one piece
    stride: int  # of the windows, pixels
    test_multiple: int = 1  # sides of test images are resized to the next multiple
    tta_ratios: tuple[float, ...] = (1.0,)  # test sizes as multiples of `scale`, their predictions averaged
    tta_flip: bool = False  # each size mirrored too

    RANGES: ClassVar[Mapping[str, str]] = {
        **DenseRecipe.RANGES, "head_channels": "[1, 8192]", "head_dropout": "[0, 1)", "scale": "[1, 16384]",
        "ratio_range": "(0, 10]", "cat_max_ratio": "(0, 1]", "stride": "[1, 8192]", "test_multiple": "[1, 1024]",
        "tta_ratios": "(0, 10]",
    }  # fmt: skip

    ONLY_TRAINING = (*DenseRecipe.ONLY_TRAINING, "head_dropout", "ratio_range", "cat_max_ratio")

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = {
            "scale": len(self.scale) != 2 or not all(isinstance(side, int) and side > 0 for side in self.scale),
            "ratio_range": len(self.ratio_range) != 2 or not 0 < self.ratio_range[0] <= self.ratio_range[1],
            "cat_max_ratio": not 0 < self.cat_max_ratio <= 1,
            "test_multiple": self.test_multiple < 1,
            "stride": not 0 < self.stride <= self.image_size,
            "layers": self.layers is not None and len(self.layers) != 4,
            "tta_ratios": not self.tta_ratios or not all(ratio > 0 for ratio in self.tta_ratios),
        }
        for name, wrong in problems.items():
            if wrong:
                raise UsageError(f"Recipe field {name} cannot be {getattr(self, name)}: {_ALLOWED[name]}.")
        if self.head == "upernet" and self.norm == "BN" and self.micro_batch == 1:
            raise UsageError(
                "UPerNet's batch normalisation needs two crops at least in each process: its coarsest map is one "
                "pixel. Use --set micro_batch=2, or --set norm=GN, which changes the result."
            )

    @property
    def split_alters(self) -> bool:
        """True with batch statistics, with Mask2Former's losses (normalised within a micro-batch) and with dropout."""
        return self.head == "mask2former" or self.norm == "BN" or self.head_dropout > 0


_ALLOWED = {
    "scale": "two sides in whole pixels, as in --set scale=[2048,512]",
    "ratio_range": "the smallest and the largest ratio, as in --set ratio_range=[0.5,2.0]",
    "cat_max_ratio": "a share, more than 0 and at most 1",
    "test_multiple": "1 or more",
    "stride": "from 1 to image_size, as windows further apart would leave gaps",
    "layers": "four layers, as in --set layers=[3,5,7,11], or none",
    "tta_ratios": "ratios above 0, as in --set tta_ratios=[0.75,1.0,1.25]",
}
_VIT_ADAPTER = "ViT-Adapter segmentation/configs/ade20k/mask2former_beitv2_adapter_large_896_{}.py"
_BEIT2 = "unilm beit2 upernet_beit_{}_512_slide_160k_ade20k.py"
_PIXELS = (
    "pixels are normalised with mean and std 0.5, as BEiT-3 was pretrained, not with ImageNet's (--set "
    "pixel_mean=[0.485,0.456,0.406] --set pixel_std=[0.229,0.224,0.225])"
)
_DECAY = "the class token and the position table are not decayed"
_PADDING = "views smaller than the window are padded with the mean colour, not with black"


def _mask2former(name: str, *, deviations: Sequence[str] = (), **numbers: Any) -> SegmentationRecipe:
    shared = {
        "head": "mask2former",
        "head_channels": 1024,
        "image_size": 896,
        "scale": (3584, 896),
        "test_multiple": 32,
        "stride": 512,
        "warmup_steps": 1_500,
        "batch_size": 16,
        "start_lr": 1e-6 * numbers["lr"],
        "low_lr_parts": _LOW_LR_PARTS,
        "weight_decay": 0.05,
        "checkpoint_activations": True,
    }
    return SegmentationRecipe(
        name=f"beit3_{name}_ade20k", deviations=(*deviations, _PIXELS, _DECAY), **shared, **numbers
    )


# ViT-Adapter's optimizer gives them the embeddings' learning rate.
_LOW_LR_PARTS = ("head.cls_embed.", "head.mask_embed.", "head.query_embed.", "head.query_feat.", "head.level_embed.")


def _upernet(name: str, **numbers: Any) -> SegmentationRecipe:
    layers, count, width = {
        "base": ((3, 5, 7, 11), 12, 768), "large": ((7, 11, 15, 23), 24, 1024)
    }[name]  # fmt: skip
    shared = {
        "head": "upernet",
        "image_size": 512,
        "scale": (2048, 512),
        "stride": 341,
        "head_channels": width,
        "layers": layers,
        "steps": 160_000,
        "warmup_steps": 1_500,
        "batch_size": 16,
        "start_lr": 1e-6 * numbers["lr"],
        "weight_decay": 0.05,
    }
    return SegmentationRecipe(
        name=f"beit3_{name}_upernet_ade20k",
        source=_BEIT2.format(f"{name}_{count}"),
        deviations=("the pyramid before the head has LayerNorm, not SyncBN", _PIXELS, _DECAY),
        **shared,
        **numbers,
    )


def _multi_scale(recipe: SegmentationRecipe, sides: Sequence[int], source: str) -> SegmentationRecipe:
    return dataclasses.replace(
        recipe,
        name=f"{recipe.name}_ms",
        source=f"{recipe.source}; test sizes {source}",
        deviations=(*recipe.deviations, _PADDING),
        tta_ratios=tuple(side / recipe.image_size for side in sides),
        tta_flip=True,
    )


_BASE = _mask2former(
    "base", source=f"{_VIT_ADAPTER.format('160k_ade20k_ss')}; drop path {_BEIT2.format('base_12')}", lr=2e-5,
    layer_decay=0.9, drop_path=0.15, steps=160_000, micro_batch=2,
    deviations=["the source has a large backbone only, whose learning rate and layer decay are used for the base one"],
)  # fmt: skip
_LARGE = _mask2former(
    "large", source=_VIT_ADAPTER.format("160k_ade20k_ss"), lr=2e-5, layer_decay=0.9, drop_path=0.3, steps=160_000,
    micro_batch=1,
)  # fmt: skip
_LARGE_STUFF = dataclasses.replace(
    _LARGE, name="beit3_large_stuff_ade20k", source=_VIT_ADAPTER.format("80k_ade20k_ss"), steps=80_000, tta_flip=True
)
_LARGE_COCOSTUFF = dataclasses.replace(
    _LARGE,
    name="beit3_large_cocostuff164k",
    source=_VIT_ADAPTER.format("80k_cocostuff164k_ss").replace("ade20k", "coco_stuff164k", 1),
    steps=80_000,
)
# The paper follows ViT-Adapter; Table 15 has the numbers that differ.
_GIANT = _mask2former(
    "giant", source="arXiv 2208.10442, Table 15; the rest ViT-Adapter's", lr=1e-5, layer_decay=0.95, drop_path=0.5,
    steps=80_000, micro_batch=1,
    deviations=[
        "no stage on COCO-Stuff-164k before, as the paper names none",
        "patches keep 14 pixels, which EVA-01 resizes to 16",
    ],
)  # fmt: skip
_MS_VIT_ADAPTER = ((800, 832, 864, 896), "mask2former_beitv2_adapter_large_896_80k_ade20k_ms.py")
_MS_EVA = ((512, 640, 768, 896, 1024, 1152, 1280), "EVA-01's")
RECIPES = {
    "base": _BASE,
    "base_ms": _multi_scale(_BASE, *_MS_VIT_ADAPTER),
    "base_upernet": _upernet("base", lr=5e-5, layer_decay=0.75, drop_path=0.15, micro_batch=8),
    "large": _LARGE,
    "large_ms": _multi_scale(_LARGE, *_MS_VIT_ADAPTER),
    "large_cocostuff": _LARGE_COCOSTUFF,
    "large_stuff": _LARGE_STUFF,
    "large_stuff_ms": _multi_scale(_LARGE_STUFF, *_MS_VIT_ADAPTER),
    "large_upernet": _upernet("large", lr=4e-5, layer_decay=0.9, drop_path=0.2, micro_batch=4),
    "giant": _GIANT,
    "giant_ms": _multi_scale(_GIANT, *_MS_EVA),
    "nano": SegmentationRecipe(
        name="multiway_nano_ade20k", source="ours, for two laptop cores and the toy data", head="upernet",
        head_channels=64, head_dropout=0.0, image_size=128, scale=(512, 128), ratio_range=(0.75, 1.33),
        stride=86, steps=150, warmup_steps=10, batch_size=16, lr=1e-3, weight_decay=0.05, drop_path=0.0, clip_grad=3.0,
        micro_batch=16, workers=1,
    ),
}  # fmt: skip
