"""Weights held against what a published number is said to be from: size, image size, head."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from backbones import weights
from leaderboards.published import PublishedRow

Shape = tuple[int, ...]

_WIDTHS = {"base": 768, "large": 1024, "giant": 1408}  # arXiv 2208.10442, Table 2
# A tensor that only checkpoints of that kind have, the most telling first.
_KINDS = {
    "logit_scale": "retrieval or contrastive (itc)",
    "head.norm1.weight": "NLVR2",
    "pooler.dense.weight": "VQA",
    "fc_norm.weight": "image classification",
    "mim_head.weight": "pretrained",
    "mlm_head.weight": "captioning",
}
_OF_TASK = {
    "imagenet": "image classification",
    "nlvr2": "NLVR2",
    "vqav2": "VQA",
    "coco_captioning": "captioning",
    "nocaps": "captioning",
    **dict.fromkeys(
        ("coco_retrieval", "flickr30k_retrieval", "coco_zero_shot", "flickr30k_zero_shot"), _KINDS["logit_scale"]
    ),
}


def confusion(path: Path, published: PublishedRow) -> str:
    """Why the tensors of a file are not those behind a published number; empty where nothing says so.

    Raises:
        InputError: the file cannot be read.
    """
    return _confusion(_shapes(path), published)


@cache
def _shapes(path: Path) -> Mapping[str, Shape]:
    return {name: tuple(tensor.shape) for name, tensor in weights.read(path).items()}


def _confusion(state: Mapping[str, Shape], published: PublishedRow) -> str:
    kind = next((kind for tensor, kind in _KINDS.items() if tensor in state), "")
    wanted = _OF_TASK.get(published.task, "")
    if kind and wanted and kind != wanted:
        return f"a {kind} checkpoint, and the number is of a model fine-tuned for {wanted}"
    table = next((shape for name, shape in state.items() if name.endswith("embed_positions.A.weight")), None)
    kernel = next((shape for name, shape in state.items() if name.endswith("vision_embed.proj.weight")), None)
    if table is None or kernel is None:
        return ""
    width = _WIDTHS.get(published.size)
    if width is not None and table[1] != width:
        total = sum(map(math.prod, state.values())) / 1e6
        size = next((name for name, own in _WIDTHS.items() if own == table[1]), "another size")
        return f"{total:.0f}M parameters of width {table[1]}, which is {size}; the number is of {published.size}"
    pixels = math.isqrt(table[0] - 3) * kernel[-1]  # three rows are for no patch
    if published.resolution and pixels != published.resolution:
        return f"made for images of {pixels} px; the number is of {published.resolution} px"
    return ""
