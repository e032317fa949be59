"""Cascade Mask R-CNN with ViTDet's numbers, as MMDetection builds it, in detectron2's style or in its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmengine.config import ConfigDict

from tasks.detection.detectron2_heads import CascadeHead, Matcher

if TYPE_CHECKING:
    from tasks.detection.recipes import DetectionRecipe

STRIDES = (4, 8, 16, 32, 64)
NORM = {"type": "LN2d", "eps": 1e-6}  # mmcv would make it 1e-5
IOUS = (0.5, 0.6, 0.7)  # that a proposal needs to count as an object, stage by stage
LOSS_WEIGHTS = (1, 0.5, 0.25)  # of the stages, in MMDetection's style
BOX_CODE_STDS = (0.1, 0.05, 1 / 30)  # of the box codes: detectron2's weights 10, 20 and 30
MASK_SIDE = 28


def cascade_mask_rcnn(dim: int, *, classes: int, recipe: DetectionRecipe) -> ConfigDict:
    """The configuration of a detector whose backbone is the pyramid: it takes a plain transformer's maps, not images.

    RPN with two convolutions, three box heads of four convolutions and one layer with LayerNorm, class-agnostic
    boxes, and one mask head, in MMDetection's style one at each stage. Source of the numbers: detectron2's
    projects/ViTDet (cascade_mask_rcnn_vitdet). The styles differ in what an anchor learns and in how stages and masks
    are trained and averaged, see `tasks.detection.detectron2_heads`.

    Args:
        dim: channels of the maps.
        classes: how many there are.
    """
    channels = recipe.head_channels
    as_detectron2 = recipe.style == "detectron2"
    roi_head = {
        "type": CascadeHead if as_detectron2 else "CascadeRoIHead",
        "num_stages": len(IOUS),
        "stage_loss_weights": [1] * len(IOUS) if as_detectron2 else LOSS_WEIGHTS,
        "bbox_roi_extractor": _extractor(7, channels),
        "bbox_head": [_box_head(std, classes, channels) for std in BOX_CODE_STDS],
    }
    if recipe.masks:
        roi_head["mask_roi_extractor"] = _extractor(14, channels)
        roi_head["mask_head"] = {
            "type": "FCNMaskHead",
            "num_convs": 4,
            "in_channels": channels,
            "conv_out_channels": channels,
            "num_classes": classes,
            "norm_cfg": NORM,
            "loss_mask": {"type": "CrossEntropyLoss", "use_mask": True, "loss_weight": 1.0},
        }
    return ConfigDict(
        type="CascadeRCNN",
        backbone={"type": "SimpleFeaturePyramid", "dim": dim, "out_channels": channels},
        rpn_head=_rpn_head(channels),
        roi_head=roi_head,
        train_cfg={
            "rpn": {
                "assigner": _assigner(recipe, 0.7, negative=0.3, low_quality=True),
                "sampler": _sampler(256, positive=0.5, add_truth=False),
                "allowed_border": -1,
                "pos_weight": -1,
                "debug": False,
            },
            "rpn_proposal": _proposals(per_level=2000),
            "rcnn": [
                {
                    "assigner": _assigner(recipe, iou, negative=iou, low_quality=False),
                    "sampler": {"type": "PseudoSampler"}  # all of them
                    if stage and as_detectron2
                    else _sampler(recipe.roi_batch, positive=0.25, add_truth=True),
                    "mask_size": MASK_SIDE,
                    "pos_weight": -1,
                    "debug": False,
                }
                for stage, iou in enumerate(IOUS)
            ],
        },
        test_cfg={"rpn": _proposals(per_level=1000), "rcnn": {}},  # the detector merges views and suppresses itself
    )


def _rpn_head(channels: int) -> dict[str, Any]:
    return {
        "type": "RPNHead",
        "in_channels": channels,
        "feat_channels": channels,
        "num_convs": 2,
        "anchor_generator": {
            "type": "AnchorGenerator",
            "scales": [8],
            "ratios": [0.5, 1.0, 2.0],
            "strides": STRIDES,
        },
        "bbox_coder": _coder((1.0, 1.0)),
        "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": True, "loss_weight": 1.0},
        "loss_bbox": {"type": "L1Loss", "loss_weight": 1.0},
    }


def _box_head(std: float, classes: int, channels: int) -> dict[str, Any]:
    return {
        "type": "Shared4Conv1FCBBoxHead",
        "in_channels": channels,
        "conv_out_channels": channels,
        "fc_out_channels": 4 * channels,
        "roi_feat_size": 7,
        "num_classes": classes,
        "norm_cfg": NORM,
        "reg_class_agnostic": True,
        "bbox_coder": _coder((std, 2 * std)),
        "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": 1.0},
        "loss_bbox": {"type": "L1Loss", "loss_weight": 1.0},
    }


def _coder(stds: tuple[float, float]) -> dict[str, Any]:
    centre, extent = stds
    return {
        "type": "DeltaXYWHBBoxCoder",
        "target_means": [0.0] * 4,
        "target_stds": [centre, centre, extent, extent],
    }


def _extractor(side: int, channels: int) -> dict[str, Any]:
    return {
        "type": "SingleRoIExtractor",
        "roi_layer": {"type": "RoIAlign", "output_size": side, "sampling_ratio": 0, "aligned": True},
        "out_channels": channels,
        "featmap_strides": STRIDES[:4],
    }


def _assigner(recipe: DetectionRecipe, positive: float, *, negative: float, low_quality: bool) -> dict[str, Any]:
    if recipe.style == "detectron2":
        return {"type": Matcher, "positive": positive, "negative": negative, "low_quality": low_quality}
    return {
        "type": "MaxIoUAssigner",
        "pos_iou_thr": positive,
        "neg_iou_thr": negative,
        "min_pos_iou": negative,
        "match_low_quality": low_quality,
        "ignore_iof_thr": -1,
        "gpu_assign_thr": 100,  # objects; with more, IoUs with all anchors at once are computed in the CPU's memory
    }


def _sampler(count: int, *, positive: float, add_truth: bool) -> dict[str, Any]:
    return {
        "type": "RandomSampler",
        "num": count,
        "pos_fraction": positive,
        "neg_pos_ub": -1,
        "add_gt_as_proposals": add_truth,
    }


def _proposals(*, per_level: int) -> dict[str, Any]:
    return {
        "nms_pre": per_level,
        "max_per_img": 1000,
        "nms": {"type": "nms", "iou_threshold": 0.7},
        "min_bbox_size": 0,
    }
