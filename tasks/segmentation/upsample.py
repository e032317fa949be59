"""Upsample class scores and take the per-pixel argmax in bands of rows, which bounds memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_SCORES = 1 << 22  # held at the final size: 16 MiB in float32, which fit into a processor's cache


def best_classes(scores: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """The class of each pixel: uint8 [height, width].

    Scores of several views are turned into probabilities and averaged, as MMSegmentation does it; all of it at the
    final size, in bands of rows.

    Args:
        scores: of each view, float [classes, rows, columns] of any size, interpolated bilinearly to the final one.
        size: height and width.
    """
    height, width = size
    band = max(MAX_SCORES // (len(scores[0]) * width), 1)
    found = torch.empty(size, dtype=torch.uint8)
    for first in range(0, height, band):
        rows = range(first, min(first + band, height))
        views = [_interpolated(view, rows, size) for view in scores]  # [classes, rows, width] each
        total = views[0] if len(views) == 1 else sum(view.softmax(0) for view in views)
        found[rows.start : rows.stop] = total.argmax(0).to("cpu", torch.uint8)
    return found


def _interpolated(scores: Tensor, rows: range, size: tuple[int, int]) -> Tensor:
    """Some rows of F.interpolate(scores, size, mode="bilinear", align_corners=False): [classes, rows, width]."""
    height, width = size
    targets = torch.arange(rows.start, rows.stop, device=scores.device)
    above, below, share = _neighbours(targets, scores.shape[1], height)
    share = share[:, None]  # [rows, 1]
    band = scores[:, above].float() * (1 - share) + scores[:, below].float() * share  # [classes, rows, columns]
    return F.interpolate(band[None], size=(len(rows), width), mode="bilinear", align_corners=False)[0]


def _neighbours(rows: Tensor, length: int, final: int) -> tuple[Tensor, Tensor, Tensor]:
    """Bilinear neighbours of pixels along a side: indices below and above, int64 [n], and the share of the upper one.

    Args:
        rows: pixels of the final side, of `final` pixels.
        length: pixels of the side that is interpolated.
    """
    exact = ((rows + 0.5) * (length / final) - 0.5).clamp_min(0)
    first = exact.long().clamp_max(length - 1)
    return first, (first + 1).clamp_max(length - 1), exact - first
