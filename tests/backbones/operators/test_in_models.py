"""The detectors and segmenters of mmdet and mmseg build, train a step and predict on our operators."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData, PixelData
from torch import Tensor, nn

CLASSES = 3
SIDE = 64
WIDTHS = [8, 8, 16, 16]  # at strides 4, 8, 16, 32

precisions = pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])


class Maps(nn.Module):
    """An image to one small map per stride."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv2d(3, width, 1) for width in WIDTHS)

    def forward(self, image: Tensor) -> list[Tensor]:
        maps = enumerate(self.convolutions, 2)
        return [convolution(nn.functional.avg_pool2d(image, 2**power)) for power, convolution in maps]


def steps(loss: dict) -> Tensor:
    """The sum of all losses, none of which is missing its number."""
    values = [value for name, values in loss.items() if "loss" in name for value in _listed(values)]
    assert values
    assert all(value.isfinite() for value in values)
    return sum(values)


def _listed(values: Tensor | list[Tensor]) -> list[Tensor]:
    return list(values) if isinstance(values, list | tuple) else [values]


def train(parts: nn.ModuleList, loss: Tensor) -> None:
    """One step, which every part takes part in."""
    optimizer = torch.optim.SGD(parts.parameters(), lr=1e-3)
    loss.backward()
    for part in parts:
        grads = [parameter.grad for parameter in part.parameters() if parameter.grad is not None]
        assert all(grad.isfinite().all() for grad in grads)
        assert any(grad.any() for grad in grads)
    optimizer.step()


def things(masks: type) -> list:
    """Two images with two objects each."""
    from mmdet.structures import DetDataSample

    boxes = torch.tensor([[4.0, 6, 30, 40], [20, 10, 60, 60]])
    pixels = torch.zeros(2, SIDE, SIDE, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(pixels, boxes.int().tolist(), strict=True):
        mask[top:bottom, left:right] = 1
    facts = {"img_shape": (SIDE, SIDE), "ori_shape": (SIDE, SIDE), "pad_shape": (SIDE, SIDE)}
    facts |= {"batch_input_shape": (SIDE, SIDE), "scale_factor": (1.0, 1.0)}
    samples = []
    for _ in range(2):
        truth = InstanceData(bboxes=boxes, labels=torch.tensor([0, 2]), masks=masks(pixels.numpy(), SIDE, SIDE))
        samples.append(DetDataSample(gt_instances=truth, metainfo=facts))
    return samples


def stage(overlap: float) -> dict:
    assigner = {"pos_iou_thr": overlap, "neg_iou_thr": overlap, "min_pos_iou": overlap, "match_low_quality": False}
    return {
        "assigner": {"type": "MaxIoUAssigner", "ignore_iof_thr": -1, **assigner},
        "sampler": {"type": "RandomSampler", "num": 16, "pos_fraction": 0.5, "add_gt_as_proposals": True},
        "mask_size": 14,
        "pos_weight": -1,
        "debug": False,
    }


def align(size: int) -> dict:
    layer = {"type": "RoIAlign", "output_size": size, "sampling_ratio": 0, "aligned": True}
    return {"type": "SingleRoIExtractor", "roi_layer": layer, "out_channels": 16, "featmap_strides": [4, 8, 16, 32]}


def box_head(deviation: float) -> dict:
    spread = [deviation, deviation, 2 * deviation, 2 * deviation]
    return {
        "type": "Shared2FCBBoxHead",
        "in_channels": 16,
        "fc_out_channels": 16,
        "num_classes": CLASSES,
        "reg_class_agnostic": True,
        "bbox_coder": {"type": "DeltaXYWHBBoxCoder", "target_means": [0.0] * 4, "target_stds": spread},
        "loss_cls": {"type": "CrossEntropyLoss"},
        "loss_bbox": {"type": "SmoothL1Loss"},
    }


@precisions
@pytest.mark.parametrize("suppression", ["nms", "soft_nms"])
def test_cascade_mask_rcnn(suppression: str, precision: torch.dtype) -> None:
    from mmdet.models.dense_heads import RPNHead
    from mmdet.models.necks import FPN
    from mmdet.models.roi_heads import CascadeRoIHead
    from mmdet.structures.mask import BitmapMasks

    torch.manual_seed(0)
    proposals = ConfigDict(nms_pre=100, max_per_img=50, nms={"type": "nms", "iou_threshold": 0.7}, min_bbox_size=0)
    rpn = RPNHead(
        in_channels=16,
        feat_channels=16,
        anchor_generator={"type": "AnchorGenerator", "scales": [4], "ratios": [0.5, 1, 2], "strides": [4, 8, 16, 32]},
        bbox_coder={"type": "DeltaXYWHBBoxCoder"},
        loss_cls={"type": "CrossEntropyLoss", "use_sigmoid": True},
        loss_bbox={"type": "L1Loss"},
        train_cfg=ConfigDict(
            assigner={"type": "MaxIoUAssigner", "pos_iou_thr": 0.7, "neg_iou_thr": 0.3, "min_pos_iou": 0.3},
            sampler={"type": "RandomSampler", "num": 32, "pos_fraction": 0.5, "add_gt_as_proposals": False},
            allowed_border=-1,
            pos_weight=-1,
        ),
    )
    suppress = {"type": suppression, "iou_threshold": 0.5}
    roi = CascadeRoIHead(
        num_stages=2,
        stage_loss_weights=[1, 0.5],
        bbox_roi_extractor=align(7),
        bbox_head=[box_head(0.1), box_head(0.05)],
        mask_roi_extractor=align(7),
        mask_head={
            "type": "FCNMaskHead",
            "num_convs": 1,
            "in_channels": 16,
            "conv_out_channels": 16,
            "num_classes": CLASSES,
            "loss_mask": {"type": "CrossEntropyLoss", "use_mask": True},
        },
        train_cfg=[ConfigDict(stage(0.5)), ConfigDict(stage(0.6))],
        test_cfg=ConfigDict(score_thr=0.01, nms=suppress, max_per_img=10, mask_thr_binary=0.5),
    )
    maps, neck = Maps(), FPN(WIDTHS, 16, 4)
    image, samples = torch.randn(2, 3, SIDE, SIDE), things(BitmapMasks)
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        features = neck(maps(image))
        losses, regions = rpn.loss_and_predict(features, samples, proposal_cfg=proposals)
        losses |= roi.loss(features, regions, samples)
    assert {"loss_rpn_cls", "s0.loss_bbox", "s1.loss_mask"} <= set(losses)
    train(nn.ModuleList([maps, neck, rpn, roi]), steps(losses))
    with torch.no_grad(), torch.autocast("cpu", precision, enabled=precision != torch.float32):
        features = neck(maps(image))
        rpn.test_cfg = proposals
        found = roi.predict(features, rpn.predict(features, samples), samples)
    assert len(found) == 2
    for result in found:
        assert 0 < len(result.scores) <= 10
        assert result.masks.shape == (len(result.scores), SIDE, SIDE)
        assert (result.scores[:-1] >= result.scores[1:]).all()


def mask2former_options(**changes: object) -> ConfigDict:
    attention = {"embed_dims": 16, "num_heads": 2, "dropout": 0.0}
    forward = {"embed_dims": 16, "feedforward_channels": 16, "num_fcs": 2, "act_cfg": {"type": "ReLU", "inplace": True}}
    positions = {"num_feats": 8, "normalize": True}
    encoder = {
        "num_layers": 1,
        "layer_cfg": {"self_attn_cfg": attention | {"num_levels": 3, "num_points": 4}, "ffn_cfg": forward},
    }
    layer = {"self_attn_cfg": attention, "cross_attn_cfg": attention, "ffn_cfg": forward}
    costs = [
        {"type": "mmdet.ClassificationCost", "weight": 2.0},
        {"type": "mmdet.CrossEntropyLossCost", "weight": 5.0, "use_sigmoid": True},
        {"type": "mmdet.DiceCost", "weight": 5.0, "pred_act": True, "eps": 1.0},
    ]
    options = {
        "in_channels": WIDTHS,
        "strides": [4, 8, 16, 32],
        "feat_channels": 16,
        "out_channels": 16,
        "num_queries": 5,
        "num_transformer_feat_level": 3,
        "pixel_decoder": {
            "type": "mmdet.MSDeformAttnPixelDecoder",
            "num_outs": 3,
            "norm_cfg": {"type": "GN", "num_groups": 4},
            "act_cfg": {"type": "ReLU"},
            "encoder": encoder,
            "positional_encoding": positions,
        },
        "enforce_decoder_input_project": False,
        "positional_encoding": positions,
        "transformer_decoder": {"return_intermediate": True, "num_layers": 1, "layer_cfg": layer},
        "loss_cls": {"type": "mmdet.CrossEntropyLoss", "loss_weight": 2.0, "class_weight": [1.0] * CLASSES + [0.1]},
        "loss_mask": {"type": "mmdet.CrossEntropyLoss", "use_sigmoid": True, "loss_weight": 5.0},
        "loss_dice": {"type": "mmdet.DiceLoss", "use_sigmoid": True, "activate": True, "naive_dice": True, "eps": 1.0},
        "train_cfg": {
            "num_points": 64,
            "oversample_ratio": 3.0,
            "importance_sample_ratio": 0.75,
            "assigner": {"type": "mmdet.HungarianAssigner", "match_costs": costs},
            "sampler": {"type": "mmdet.MaskPseudoSampler"},
        },
    }
    return ConfigDict(options, **changes)


@precisions
def test_mask2former_of_mmdet(precision: torch.dtype) -> None:
    from mmdet.models.dense_heads import Mask2FormerHead
    from mmdet.structures.mask import BitmapMasks

    torch.manual_seed(0)
    maps = Maps()
    head = Mask2FormerHead(**mask2former_options(num_things_classes=2, num_stuff_classes=1))
    image, samples = torch.randn(2, 3, SIDE, SIDE), things(BitmapMasks)
    for sample in samples:
        sample.gt_instances.masks = sample.gt_instances.masks.to_tensor(torch.uint8, "cpu")
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        truths, facts = [s.gt_instances for s in samples], [s.metainfo for s in samples]
        losses = head.loss_by_feat(*head(maps(image), samples), truths, facts)
    train(nn.ModuleList([maps, head]), steps(losses))
    with torch.no_grad(), torch.autocast("cpu", precision, enabled=precision != torch.float32):
        classes, masks = head.predict(maps(image), samples)
    assert classes.shape == (2, 5, CLASSES + 1)
    assert masks.shape == (2, 5, SIDE, SIDE)


def stuff() -> list:
    """Two images whose halves are of two classes, with a column of no class."""
    from mmseg.structures import SegDataSample

    labels = torch.zeros(1, SIDE, SIDE, dtype=torch.long)
    labels[..., SIDE // 2 :] = 2
    labels[..., 0] = 255
    facts = {"img_shape": (SIDE, SIDE), "ori_shape": (SIDE, SIDE), "pad_shape": (SIDE, SIDE)}
    return [SegDataSample(gt_sem_seg=PixelData(data=labels), metainfo=facts) for _ in range(2)]


@precisions
@pytest.mark.parametrize("kind", ["UPerHead", "Mask2FormerHead"])
def test_heads_of_mmseg(kind: str, precision: torch.dtype) -> None:
    from mmseg.models import decode_heads

    torch.manual_seed(0)
    options = {"num_classes": CLASSES, "align_corners": False}
    if kind == "UPerHead":
        options |= {"in_channels": WIDTHS, "in_index": [0, 1, 2, 3], "channels": 16, "norm_cfg": {"type": "BN"}}
    else:
        options = mask2former_options(**options)
    maps, head = Maps(), getattr(decode_heads, kind)(**options)
    image, samples = torch.randn(2, 3, SIDE, SIDE), stuff()
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        losses = head.loss(maps(image), samples, ConfigDict())
    train(nn.ModuleList([maps, head]), steps(losses))
    facts = [sample.metainfo for sample in samples]
    head.eval()
    with torch.no_grad(), torch.autocast("cpu", precision, enabled=precision != torch.float32):
        logits = head.predict(maps(image), facts, ConfigDict())
    assert logits.shape[:2] == (2, CLASSES)
    assert logits.isfinite().all()
