"""Recipes of detection: Cascade Mask R-CNN on a plain backbone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from backbones.config import DENSE_PATCH
from backbones.errors import UsageError
from tasks.common.dense_recipe import DenseRecipe


@dataclass(frozen=True, kw_only=True)
class DetectionRecipe(DenseRecipe):
    """Fine-tuning a Cascade Mask R-CNN on a plain backbone (ViTDet, arXiv 2203.16527).

    `image_size` is the side of the training crop.

    Another number of processes, or another `micro_batch`, gives a training that is alike and not the same: each process
    draws its proposals at random (mmdet's RandomSampler) and averages a loss over those of its own micro batch
    (`avg_factor`, which is not shared between processes), as in the published trainings. So `micro_batch` is part of
    what decides a result. A training that is interrupted and resumed with the same numbers ends with the same bits, and
    predictions are the same to the byte on any number of processes. That is so on CPUs; on a GPU, RoIAlign's gradient
    is summed by atomic additions, whose order varies: two trainings there differ in the last bits.
    """

    split_alters = True

    style: Literal["detectron2", "mmdet"] = "detectron2"  # of the cascade, see tasks.detection.cascade
    masks: bool = True  # whether masks are learnt beside boxes; off for sets of boxes alone
    window: int = 14  # side of an attention window, in patches of 16 pixels; 0: every layer attends everywhere
    global_blocks: int = 4  # evenly placed layers that attend to the whole image
    scale_jitter: tuple[float, float] = (0.1, 2.0)  # how large the longer edge gets, in crops
    head_channels: int = 256  # of the pyramid, the proposals and the heads
    roi_batch: int = 512  # proposals per image that the loss of a stage takes
    test_size: int = 0  # longer edge of an image to predict, in pixels; 0: that of the training crop
    test_scales: tuple[int, ...] = ()  # longer edges of the views whose detections are merged, in place of test_size
    test_flip: bool = False  # each view mirrored too
    score_threshold: float = 0.05  # detections have more than that before suppression
    soft_nms: bool = False  # linear decay in place of removal
    soft_nms_floor: float = 1e-3  # decayed scores below it go
    nms_iou: float = 0.5
    detections: int = 100  # most that an image has, or most of each category in it
    detections_per: Literal["image", "category"] = "image"
    maskness: bool = False  # scores times the mean probability of the mask's pixels

    RANGES: ClassVar[Mapping[str, str]] = {
        **DenseRecipe.RANGES, "window": "[0, 1024]", "global_blocks": "[0, 1000]", "scale_jitter": "(0, 10]",
        "head_channels": "[1, 8192]", "roi_batch": "[1, 1e5]", "test_size": "[0, 16384]", "test_scales": "[1, 16384]",
        "score_threshold": "[0, 1]", "soft_nms_floor": "[0, 1]", "nms_iou": "[0, 1]", "detections": "[1, 1e5]",
    }  # fmt: skip

    ONLY_TRAINING = (*DenseRecipe.ONLY_TRAINING, "scale_jitter", "roi_batch")

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.scale_jitter) != 2 or not 0 < self.scale_jitter[0] <= self.scale_jitter[1]:
            raise UsageError(
                f"Recipe field scale_jitter has a smallest and a largest scale, as in [0.1, 2.0]: not "
                f"{list(self.scale_jitter)}."
            )
        for name in ("test_size", "test_scales"):
            sizes = getattr(self, name)
            for size in sizes if isinstance(sizes, tuple) else (sizes,):
                if size < 0 or size % DENSE_PATCH:
                    raise UsageError(
                        f"Recipe field {name} has multiples of {DENSE_PATCH}, the pixels of a patch: {size} would cut "
                        f"the image's last pixels off. Use {max(round(size / DENSE_PATCH), 1) * DENSE_PATCH}."
                    )


_VITDET = "detectron2 projects/ViTDet, cascade_mask_rcnn_vitdet_{}_100ep"
_PAPER = (
    "arXiv 2208.10442, Table 16, {} column; the paper states no milestones (here ViTDet's), windows, global layers "
    "and soft-NMS (here EVA-01's, arXiv 2211.07636), nor sizes of the multi-scale test (ours)"
)
_DEVIATIONS = (
    "targets of masks are cut out of bitmaps, in detectron2 out of polygons",
    "positions are learnt for the crop's patches, in detectron2 for those of pretraining",
    "half precision is bfloat16, in detectron2 float16",
    "proposals of an image without objects: its 256 anchors weigh 1/257 each",
)
_HALF = "pixels with BEiT-3's mean and std 0.5, in detectron2 with ImageNet's (pixel_mean, pixel_std)"
_SOFT_NMS = {"soft_nms": True, "nms_iou": 0.6, "score_threshold": 0.0, "detections_per": "category"}  # EVA-01's
_BASE = DetectionRecipe(
    name="vitdet_base_coco_detection", source=_VITDET.format("b"), deviations=(*_DEVIATIONS, _HALF), image_size=1024,
    steps=184_375, warmup_steps=250,
    schedule="step", milestones=(8 / 9, 26 / 27), batch_size=64, lr=1e-4, start_lr=1e-7, layer_decay=0.7,
    weight_decay=0.1, decays="detectron2", drop_path=0.1, micro_batch=2,
)  # fmt: skip
_GIANT = replace(
    _BASE, name="beit3_giant_coco_detection", source=_PAPER.format("COCO"), image_size=1280, steps=0, epochs=20,
    lr=5e-5, start_lr=5e-8, layer_decay=0.9, decays="all", drop_path=0.6, window=16, global_blocks=10,
    test_scales=(1024, 1280, 1536), test_flip=True, micro_batch=1, checkpoint_activations=True, **_SOFT_NMS,
)  # fmt: skip
_LARGE = replace(
    _BASE, name="vitdet_large_coco_detection", source=_VITDET.format("l"), layer_decay=0.8, drop_path=0.4,
    micro_batch=1, checkpoint_activations=True,
)  # fmt: skip
_ONE_VIEW = {"test_scales": (), "test_flip": False}
# The source's pixels too: what its released checkpoints of a plain transformer predict with.
_PLAIN = {"deviations": _DEVIATIONS, "pixel_mean": (0.485, 0.456, 0.406), "pixel_std": (0.229, 0.224, 0.225)}
RECIPES = {
    "base": _BASE,
    "large": _LARGE,
    "base_soft_nms": replace(_BASE, name="vitdet_base_soft_nms_coco_detection", **_SOFT_NMS),
    "large_soft_nms": replace(_LARGE, name="vitdet_large_soft_nms_coco_detection", **_SOFT_NMS),
    "giant": _GIANT,
    "giant_ss": replace(_GIANT, name="beit3_giant_ss_coco_detection", **_ONE_VIEW),
    "giant_1536": replace(
        _GIANT, name="beit3_giant_1536_coco_detection", source=f"{_PAPER.format('COCO')}; test as EVA-01's, whose mask "
        "AP 55.0 has maskness=true", test_size=1536, **_ONE_VIEW,
    ),
    "vitdet_base": replace(_BASE, name="vitdet_base_plain_coco_detection", **_PLAIN),
    "vitdet_large": replace(_LARGE, name="vitdet_large_plain_coco_detection", **_PLAIN),
    "giant_objects365": replace(
        _GIANT, name="beit3_giant_objects365", source=_PAPER.format("Objects365"), masks=False, image_size=1024,
        epochs=15, lr=1e-4, start_lr=1e-7, **_ONE_VIEW,
    ),
    "nano": DetectionRecipe(
        name="multiway_nano_coco_detection", source="ours, for two laptop cores and the toy data", image_size=256,
        epochs=2, warmup_epochs=1, batch_size=8, lr=5e-4, weight_decay=0.05, drop_path=0.0, clip_grad=3.0,
        window=8, global_blocks=2, head_channels=32, scale_jitter=(0.8, 1.25), roi_batch=32, micro_batch=8, workers=1,
    ),
}  # fmt: skip
