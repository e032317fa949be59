"""Differences of detectron2's Cascade R-CNN to MMDetection's, as parts of an MMDetection detector.

Source of the form: detectron2, modeling/matcher.py and modeling/roi_heads/cascade_rcnn.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from backbones import openmmlab  # noqa: F401  provides what mmcv-lite lacks, before MMDetection is imported

# isort: split
import torch
from mmdet.models.roi_heads import CascadeRoIHead
from mmdet.models.task_modules.assigners import AssignResult, BaseAssigner
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.models.utils import unpack_gt_instances
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torchvision.ops import box_iou

MAX_OVERLAPS = 1 << 23  # 32 MiB in float32, and some five times as much while they are computed


class Matcher(BaseAssigner):
    """Gives each box (anchor or proposal) the object that it overlaps most.

    A box is an object's from an IoU of `positive` on, background below `negative`, and left out of the loss in
    between. With `low_quality`, so are the boxes that overlap an object most of all, however little, MMDetection's
    `min_pos_iou` being a floor there; and of two objects they learn the one that they overlap more, where MMDetection
    gives them to the one that chose them. IoUs are computed for some objects at a time: their memory does not grow
    with the number of objects.
    """

    def __init__(self, *, positive: float, negative: float, low_quality: bool) -> None:
        self.positive = positive
        self.negative = negative
        self.low_quality = low_quality

    def assign(
        self,
        pred_instances: InstanceData,
        gt_instances: InstanceData,
        gt_instances_ignore: InstanceData | None = None,
        **kwargs: Any,
    ) -> AssignResult:
        """See MMDetection's BaseAssigner; there is nothing to ignore in the training sets."""
        boxes, objects = pred_instances.priors, gt_instances.bboxes
        largest = boxes.new_zeros(len(boxes))
        own = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
        chosen = torch.zeros_like(own, dtype=torch.bool)
        at_once = max(MAX_OVERLAPS // max(len(boxes), 1), 1)
        for first in range(0, len(objects), at_once):
            overlaps = box_iou(objects[first : first + at_once], boxes)  # [objects, boxes]
            value, index = overlaps.max(dim=0)
            own = torch.where(value > largest, index + first, own)
            largest = torch.maximum(largest, value)
            if self.low_quality:
                most = overlaps.amax(dim=1, keepdim=True)
                chosen |= ((overlaps == most) & (most > 0)).any(dim=0)
        taught = (largest >= self.positive) | chosen if len(objects) else chosen
        indices = torch.where(largest < self.negative, 0, -1)
        indices = torch.where(taught, own + 1, indices)  # 0 background, -1 left out, n + 1 object n
        labels = torch.full_like(indices, -1)
        labels[taught] = gt_instances.labels[own[taught]]
        return AssignResult(len(objects), indices, largest, labels)


class CascadeHead(CascadeRoIHead):
    """Three box heads on each other's boxes, and one mask head on the first stage's samples.

    Otherwise than in MMDetection: all boxes of a stage go on to the next, those of the true boxes too, and are neither
    sampled there nor joined by the true boxes again; the losses of all stages weigh 1, and the gradients that go back
    from them into the maps are divided by their number; scores are means of the stages' probabilities.
    """

    def init_mask_head(self, mask_roi_extractor: dict[str, Any], mask_head: dict[str, Any]) -> None:
        self.share_roi_extractor = False
        self.mask_roi_extractor = nn.ModuleList([MODELS.build(mask_roi_extractor)])
        self.mask_head = nn.ModuleList([MODELS.build(mask_head)])

    def init_weights(self) -> None:
        """MMDetection's initial weights but where detectron2's are of another size."""
        super().init_weights()
        for head in self.bbox_head:
            for layer in head.shared_fcs:
                nn.init.kaiming_uniform_(layer.weight, a=1)  # fvcore's c2_xavier_fill
        if self.with_mask:
            nn.init.normal_(self.mask_head[0].conv_logits.weight, std=0.001)

    def loss(
        self, x: tuple[Tensor, ...], rpn_results_list: list[InstanceData], batch_data_samples: list[DetDataSample]
    ) -> dict[str, Tensor]:
        """See MMDetection's CascadeRoIHead; the mask loss is the first stage's."""
        truths, _, metas = unpack_gt_instances(batch_data_samples)
        proposals = [result.bboxes for result in rpn_results_list]
        losses = {}
        for stage in range(self.num_stages):
            pairs = zip(proposals, truths, strict=True)
            samples = [self._sampled(stage, boxes, truth) for boxes, truth in pairs]
            found = self.bbox_loss(stage, x, samples)
            stage_losses = found["loss_bbox"]
            if stage == 0 and self.with_mask:
                stage_losses = stage_losses | self.mask_loss(stage, x, samples, truths)["loss_mask"]
            losses |= {f"s{stage}.{name}": value for name, value in stage_losses.items()}
            refined = self._refined(stage, found["rois"], found["bbox_pred"].detach(), metas)
            proposals = [boxes[(boxes[:, 2:] > boxes[:, :2]).all(dim=1)] for boxes in refined]
        return losses

    def _sampled(self, stage: int, boxes: Tensor, truth: InstanceData) -> SamplingResult:
        proposals = InstanceData(priors=boxes)
        matches = self.bbox_assigner[stage].assign(proposals, truth)
        return self.bbox_sampler[stage].sample(matches, proposals, truth)

    def _refined(self, stage: int, rois: Tensor, deltas: Tensor, metas: Sequence[dict[str, Any]]) -> tuple[Tensor, ...]:
        """The boxes of a stage's regions [n, 5] after its deltas [n, 4], cut at the border: [n, 4] of each image."""
        coder = self.bbox_head[stage].bbox_coder
        return tuple(
            coder.decode(rois[rois[:, 0] == index, 1:], deltas[rois[:, 0] == index], max_shape=meta["img_shape"])
            for index, meta in enumerate(metas)
        )

    def _bbox_forward(self, stage: int, x: tuple[Tensor, ...], rois: Tensor) -> dict[str, Tensor]:
        extractor = self.bbox_roi_extractor[stage]
        features = extractor(x[: extractor.num_inputs], rois)
        if features.requires_grad:
            features.register_hook(lambda gradient: gradient / self.num_stages)
        scores, deltas = self.bbox_head[stage](features)
        return {"cls_score": scores, "bbox_pred": deltas, "bbox_feats": features}

    def _refine_roi(
        self,
        x: tuple[Tensor, ...],
        rois: Tensor,
        batch_img_metas: list[dict[str, Any]],
        num_proposals_per_img: Sequence[int],
        **kwargs: Any,
    ) -> tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]:
        """The last stage's regions, logarithms of mean probabilities, and the last stage's deltas of each image.

        The caller's softmax gives the probabilities back.
        """
        found = self._bbox_forward(0, x, rois)
        total = found["cls_score"].softmax(dim=-1)
        for stage in range(1, self.num_stages):
            refined = self._refined(stage - 1, rois, found["bbox_pred"], batch_img_metas)
            rois = torch.cat([rois[:, :1], torch.cat(refined)], dim=1)
            found = self._bbox_forward(stage, x, rois)
            total = total + found["cls_score"].softmax(dim=-1)
        scores = (total / self.num_stages).log()
        return tuple(each.split(tuple(num_proposals_per_img)) for each in (rois, scores, found["bbox_pred"]))
