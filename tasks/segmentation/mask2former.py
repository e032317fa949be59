"""Mask2Former's head, with MMDetection's slow or imprecise parts replaced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from mmengine.structures import InstanceData
from mmengine.utils import apply_to
from torch import Tensor, nn

from backbones import openmmlab
from backbones.deformable import DeformableAttention
from tasks.segmentation import heads

if TYPE_CHECKING:
    from mmdet.models.task_modules import AssignResult, BaseAssigner
    from mmengine.model import BaseModule

    from tasks.segmentation.recipes import SegmentationRecipe


def build(dim: int, *, classes: int, recipe: SegmentationRecipe) -> BaseModule:
    """The head over four maps of `dim` channels."""
    head = openmmlab.build(heads.mask2former(dim, classes=classes, recipe=recipe), package="mmseg")
    decoder = head.pixel_decoder
    for layer in decoder.encoder.layers:
        layer.self_attn = _SelfAttention(layer.self_attn)
    decoder.register_forward_pre_hook(_tell_grids)
    head.register_forward_hook(_widened)
    head.assigner = _InFloat32(head.assigner)
    return head


class _SelfAttention(DeformableAttention):
    """Of all cells of all levels, called as MMDetection's encoder calls mmcv's."""

    def __init__(self, theirs: nn.Module) -> None:
        super().__init__(theirs.embed_dims, heads=theirs.num_heads, levels=theirs.num_levels, points=theirs.num_points)
        self.load_state_dict(theirs.state_dict())

    def forward(self, query: Tensor, *, query_pos: Tensor, reference_points: Tensor, **_: Any) -> Tensor:
        """[batch, cells, dim] of all three; nothing is padded."""
        return query + super().forward(query + query_pos, query, reference_points, self.grids)


def _tell_grids(decoder: nn.Module, inputs: tuple[list[Tensor]]) -> None:
    """A hook that gives the attentions the sizes of the levels, the coarsest first, as numbers."""
    (maps,) = inputs
    grids = [tuple(features.shape[-2:]) for features in reversed(maps)][: decoder.num_encoder_levels]
    for layer in decoder.encoder.layers:
        layer.self_attn.grids = grids


class _InFloat32:
    """An assigner whose costs mixed precision does not round: some queries would be matched to other objects."""

    def __init__(self, assigner: BaseAssigner) -> None:
        self._assigner = assigner

    def assign(self, *, gt_instances: InstanceData, **others: Any) -> AssignResult:
        with torch.autocast(gt_instances.labels.device.type, enabled=False):
            return self._assigner.assign(gt_instances=gt_instances, **others)


def _widened(head: nn.Module, inputs: Any, outputs: Any) -> Any:
    """A forward hook: losses and costs are computed in float32."""
    return apply_to(outputs, torch.is_tensor, Tensor.float)
