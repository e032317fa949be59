"""Paste per-box mask predictions into full-size images and encode them as COCO RLE."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pycocotools import mask as coco_mask
from torch import Tensor

MIN_PROBABILITY = 0.5  # of a pixel that belongs to the object


def run_lengths(probabilities: Tensor, boxes: Tensor, size: tuple[int, int]) -> list[dict[str, Any]]:
    """Encode the mask of each box: {"size": [height, width], "counts": text}.

    Masks are pasted and encoded one at a time and only where their box is, so that memory does not grow with the
    number of objects in a large image.

    Args:
        probabilities: float [n, side, side], of the pixels in each box.
        boxes: float [n, 4] as x1, y1, x2, y2 in pixels of the image.
        size: height and width of the image.
    """
    canvas = np.zeros(size, np.uint8, order="F")
    encoded = []
    for probability, box in zip(probabilities.float().cpu(), boxes.float().cpu(), strict=True):
        rows, columns, inside = _pasted(probability, box, size)
        canvas[rows, columns] = inside
        lengths = coco_mask.encode(canvas)
        encoded.append({"size": list(size), "counts": lengths["counts"].decode()})
        canvas[rows, columns] = 0
    return encoded


def maskness(probabilities: Tensor) -> Tensor:
    """Mean probability of the pixels that belong to each object, 0 without one: [n, side, side] -> [n].

    Source: SOLOv2 (arXiv 2003.10152); EVA-01's detector multiplies its scores with it.
    """
    inside = probabilities > MIN_PROBABILITY
    return (probabilities * inside).sum(dim=(1, 2)) / inside.sum(dim=(1, 2)).clamp_min(1)


def _pasted(probability: Tensor, box: Tensor, size: tuple[int, int]) -> tuple[slice, slice, np.ndarray]:
    """Rows and columns around the box, and which pixels of them are the object's: uint8 [rows, columns].

    The values at pixel centres, interpolated bilinearly in the square that is stretched over the box (detectron2's
    paste_masks_in_image).
    """
    grids = []  # of rows and of columns, in the box's coordinates from -1 to 1
    slices = []
    for low, high, length in ((box[1], box[3], size[0]), (box[0], box[2], size[1])):
        first = max(int(low.floor()) - 1, 0)
        last = max(min(int(high.ceil()) + 1, length), first)
        centres = torch.arange(first, last) + 0.5
        grids.append((centres - low) / (high - low).clamp_min(1e-6) * 2 - 1)
        slices.append(slice(first, last))
    y, x = torch.meshgrid(*grids, indexing="ij")  # [rows, columns] each
    sampled = F.grid_sample(probability[None, None], torch.stack([x, y], dim=-1)[None], align_corners=False)
    return *slices, (sampled[0, 0] >= MIN_PROBABILITY).numpy().astype(np.uint8)
