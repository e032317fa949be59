"""Non-maximum suppression, greedy and soft."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torchvision
from torch import Tensor

from backbones.operators.precision import widened


def nms(boxes: Tensor, scores: Tensor, *, iou_threshold: float, offset: int) -> Tensor:
    """Greedy suppression: a box goes when a better one that stays overlaps it by more than the threshold.

    Args:
        boxes: [n, 4] (x1, y1, x2, y2).
        scores: [n].
        offset: 1 when x2 and y2 are the last pixels inside, so that a width is x2 - x1 + 1; else 0.

    Returns:
        Indices [kept] int64 of the boxes that stay, the best first.
    """
    corners, score = widened(boxes, scores)
    return torchvision.ops.nms(corners + corners.new_tensor([0, 0, offset, offset]), score, iou_threshold)


# What is left of a score, from IoU [n], threshold and sigma; mmcv's numbers of the methods (Bodla et al. 2017,
# arXiv:1704.04503, equation 1 onwards).
DECAY: dict[int, Callable[[np.ndarray, float, float], np.ndarray]] = {
    0: lambda iou, threshold, sigma: iou < threshold,
    1: lambda iou, threshold, sigma: np.where(iou < threshold, 1, 1 - iou),
    2: lambda iou, threshold, sigma: np.exp(-(iou**2) / sigma),
}


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    *,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Soft suppression (Bodla et al. 2017): boxes that overlap a better one lose score instead of going.

    Args:
        boxes: [n, 4] (x1, y1, x2, y2), on the CPU.
        scores: [n].
        dets: [n, 5], whose first rows become the kept boxes with their scores; the others are left alone.
        iou_threshold: overlap from which on methods 0 and 1 act.
        sigma: of method 2.
        min_score: boxes whose score falls below go; the best of all stays whatever its score.
        method: 0 naive (the score becomes 0), 1 linear (it is multiplied by 1 - IoU), 2 Gaussian.
        offset: as in `nms`.

    Returns:
        Indices [kept] int64, in the order in which they were picked: by falling final score.
    """
    corners, score = (tensor.numpy() for tensor in widened(boxes.detach(), scores.detach().clone()))
    corners = corners + np.array([0, 0, offset, offset], corners.dtype)
    area = (corners[:, 2:] - corners[:, :2]).prod(axis=1)
    left = np.arange(len(corners))
    kept = []
    while len(left):
        index = score[left].argmax()
        best = left[index]
        kept.append(best)
        left = np.delete(left, index)
        sides = np.minimum(corners[left, 2:], corners[best, 2:]) - np.maximum(corners[left, :2], corners[best, :2])
        shared = sides.clip(min=0).prod(axis=1)
        union = np.maximum(area[best] + area[left] - shared, np.finfo(area.dtype).tiny)  # two boxes may have no area
        score[left] *= DECAY[method](shared / union, iou_threshold, sigma)
        left = left[score[left] >= min_score]
    indices = torch.tensor(kept, dtype=torch.int64)
    dets[: len(kept), :4] = boxes[indices]
    dets[: len(kept), 4] = torch.from_numpy(score)[indices]
    return indices
