"""Weights of detectron2's ViTDet with a Cascade Mask R-CNN, under the names of our detector.

Source of the names: detectron2, projects/ViTDet, whose released checkpoints (model_final_*.pkl) bear them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from backbones.positions import UNUSED_ROWS, resize_image_table

MARK = "backbone.net.blocks."  # what only detectron2's names begin with
BUFFERS = ("pixel_mean", "pixel_std", "proposal_generator.anchor_generator.")  # constants, in older files only

_LAYER = {
    "norm1": "self_attn_layer_norm",
    "norm2": "final_layer_norm",
    "attn.proj": "self_attn.out_proj",
    "mlp.fc1": "ffn.fc1",
    "mlp.fc2": "ffn.fc2",
}
_SIDES = {"h": "height", "w": "width"}
_RPN = {
    "conv.conv0": "rpn_conv.0.conv",
    "conv.conv1": "rpn_conv.1.conv",
    "objectness_logits": "rpn_cls",
    "anchor_deltas": "rpn_reg",
}
_PREDICTOR = {"cls_score": "fc_cls", "bbox_pred": "fc_reg"}
_MASK = {"deconv": "upsample", "predictor": "conv_logits"}
_PYRAMID_START = {2: 4, 3: 1, 4: 0, 5: 1}  # index of the first convolution in each level, by its stride's exponent


def is_detectron2(state: Mapping[str, Tensor]) -> bool:
    """Check that a state dict is of detectron2's ViTDet."""
    return any(name.startswith(MARK) for name in state)


def translated(state: Mapping[str, Tensor], *, grid: int) -> dict[str, Tensor]:
    """A detectron2 state dict under our names.

    Query, key and value become three matrices. The position table gets the rows that ours has before its class token;
    detectron2 keeps it in pretraining's size and resizes it bicubically in each forward pass, here that is done once,
    to `grid` × `grid` patches. Names that are not ViTDet's stay as they are, for the loader to refuse.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name.startswith(BUFFERS):
            continue
        if name == "backbone.net.pos_embed":
            rows = torch.cat([tensor.new_zeros(UNUSED_ROWS, tensor.shape[-1]), tensor[0]])
            found["beit3.encoder.embed_positions.A.weight"] = resize_image_table(rows, (grid, grid))
        elif match := re.fullmatch(r"backbone\.net\.blocks\.(\d+)\.attn\.qkv\.(weight|bias)", name):
            layer, kind = match.groups()
            for letter, own in zip("qkv", tensor.chunk(3), strict=True):
                found[f"beit3.encoder.layers.{layer}.self_attn.{letter}_proj.{kind}"] = own
        else:
            found[_renamed(name)] = tensor
    return found


def _renamed(name: str) -> str:
    module, _, kind = name.rpartition(".")
    if module == "backbone.net.patch_embed.proj":
        return f"beit3.vision_embed.proj.{kind}"
    if match := re.fullmatch(r"backbone\.net\.blocks\.(\d+)\.attn", module):
        return f"beit3.relative.{match[1]}.{_SIDES.get(kind.removeprefix('rel_pos_'), kind)}"
    if match := re.fullmatch(r"backbone\.net\.blocks\.(\d+)\.(.+)", module):
        return f"beit3.encoder.layers.{match[1]}.{_LAYER.get(match[2], match[2])}.{kind}"
    if match := re.fullmatch(r"backbone\.simfp_([2-5])\.(\d)(\.norm)?", module):
        return _of_pyramid(int(match[1]), int(match[2]), norm=bool(match[3])) + f".{kind}"
    if module.startswith("proposal_generator.rpn_head."):
        layer = module.removeprefix("proposal_generator.rpn_head.")
        return f"net.rpn_head.{_RPN.get(layer, layer)}.{kind}"
    if match := re.fullmatch(r"roi_heads\.box_predictor\.(\d)\.(.+)", module):
        return f"net.roi_head.bbox_head.{match[1]}.{_PREDICTOR.get(match[2], match[2])}.{kind}"
    if match := re.fullmatch(r"roi_heads\.box_head\.(\d)\.fc(\d)", module):
        return f"net.roi_head.bbox_head.{match[1]}.shared_fcs.{int(match[2]) - 1}.{kind}"
    if match := re.fullmatch(r"roi_heads\.box_head\.(\d)\.conv(\d)(\.norm)?", module):
        return f"net.roi_head.bbox_head.{match[1]}.shared_convs.{_of_convolution(match[2], match[3])}.{kind}"
    if match := re.fullmatch(r"roi_heads\.mask_head\.mask_fcn(\d)(\.norm)?", module):
        return f"net.roi_head.mask_head.0.convs.{_of_convolution(match[1], match[2])}.{kind}"
    if module.startswith("roi_heads.mask_head."):
        layer = module.removeprefix("roi_heads.mask_head.")
        return f"net.roi_head.mask_head.0.{_MASK.get(layer, layer)}.{kind}"
    return name


def _of_pyramid(exponent: int, index: int, *, norm: bool) -> str:
    """Ours has what changes the scale as one module, then two convolutions, each with its norm beside it."""
    level, start = exponent - 2, _PYRAMID_START[exponent]
    if index >= start:
        return f"net.backbone.levels.{level}.{1 + 2 * (index - start) + norm}"
    return f"net.backbone.levels.{level}.0" + (f".{index}" if exponent == 2 else "")


def _of_convolution(number: str, norm: str | None) -> str:
    return f"{int(number) - 1}.{'ln' if norm else 'conv'}"
