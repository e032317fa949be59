"""Pooling of regions of interest: RoI align (He et al. 2017, arXiv:1703.06870) and RoI pool (arXiv:1504.08083).

Regions are rows [n, 5] of (index of the image, x1, y1, x2, y2) in pixels of the image; `spatial_scale` takes pixels to
cells of the feature map.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor

from backbones.operators.precision import widened

MAX, AVERAGE = 0, 1  # mmcv's numbers of RoI align's modes


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Bilinear samples of each bin, averaged or the largest of them.

    Args:
        input: [batch, channels, height, width].
        rois: [n, 5].
        output: [n, channels, aligned_height, aligned_width], filled.
        argmax_y, argmax_x: of the shape of `output` when the largest is taken, filled with the row and the column of
            that sample within its bin, for the backward pass; not used for averages.
        sampling_ratio: samples of a bin along each side; 0 for one per cell, rounded up.
        pool_mode: 0 largest, 1 average.
        aligned: cell centres are at half-integers; False: at integers, and regions are at least one cell large.
    """
    size = (aligned_height, aligned_width)
    features, regions = widened(input, rois)
    if pool_mode == AVERAGE:
        output.copy_(torchvision.ops.roi_align(features, regions, size, spatial_scale, sampling_ratio, aligned))
        return
    for chosen, grid in _by_samples(regions, size, spatial_scale, sampling_ratio):
        # A bin for every sample, so that each average is over one.
        fine = (size[0] * grid[0], size[1] * grid[1])
        samples = torchvision.ops.roi_align(features, regions[chosen], fine, spatial_scale, 1, aligned)
        largest, index = F.max_pool2d(samples, grid, return_indices=True)
        output[chosen] = largest.to(output.dtype)
        # Within the bin the numbers are small enough for a tensor of half precision.
        argmax_y[chosen] = (index // fine[1] % grid[0]).to(argmax_y.dtype)
        argmax_x[chosen] = (index % fine[1] % grid[1]).to(argmax_x.dtype)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fills `grad_input` [batch, channels, height, width] with the gradient; the arguments are those of the forward."""
    size = (aligned_height, aligned_width)
    grad, regions = widened(grad_output, rois)

    def spread(grad: Tensor, regions: Tensor, samples: int) -> Tensor:
        return torch.ops.torchvision._roi_align_backward(
            grad, regions, spatial_scale, *grad.shape[2:], *grad_input.shape, samples, aligned
        )

    if pool_mode == AVERAGE:
        grad_input.copy_(spread(grad, regions, sampling_ratio))
        return
    total = torch.zeros_like(grad_input, dtype=grad.dtype)
    bins = [torch.arange(length, device=grad.device) for length in size]
    for chosen, grid in _by_samples(regions, size, spatial_scale, sampling_ratio):
        row = bins[0][:, None] * grid[0] + argmax_y[chosen].long()
        column = bins[1] * grid[1] + argmax_x[chosen].long()
        width = size[1] * grid[1]
        fine = grad.new_zeros(*row.shape[:2], size[0] * grid[0] * width)
        fine.scatter_(2, (row * width + column).flatten(2), grad[chosen].flatten(2))
        total += spread(fine.view(*row.shape[:2], -1, width), regions[chosen], 1)
    grad_input.copy_(total)


def _by_samples(
    rois: Tensor, size: tuple[int, int], scale: float, ratio: int
) -> Iterator[tuple[Tensor, tuple[int, int]]]:
    """Regions [chosen] (indices) with the same number of samples per bin, and that number (rows, columns)."""
    sides = (rois[:, [4, 3]] - rois[:, [2, 1]]) * scale
    grids = (sides / sides.new_tensor(size)).ceil().long().clamp(min=1)
    if ratio > 0:
        grids = torch.full_like(grids, ratio)
    for grid in grids.unique(dim=0):
        yield (grids == grid).all(dim=1).nonzero()[:, 0], tuple(grid.tolist())


def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    *,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """The largest cell of each bin, a bin being all cells that it touches.

    mmcv does not round regions to cells first, as torchvision does.

    Args:
        input: [batch, channels, height, width].
        rois: [n, 5]; x2 and y2 are the last pixels inside.
        output: [n, channels, pooled_height, pooled_width], filled; 0 in bins outside the map.
        argmax: of the same shape, int32, filled with row · width + column of that cell, -1 in bins outside the map.
    """
    height, width = input.shape[2:]
    tops, bottoms = _edges(rois[:, 2], rois[:, 4], spatial_scale, bins=pooled_height, cells=height)
    lefts, rights = _edges(rois[:, 1], rois[:, 3], spatial_scale, bins=pooled_width, cells=width)
    output.zero_()
    argmax.fill_(-1)
    for number, image in enumerate(rois[:, 0].long().tolist()):
        for row, (top, bottom) in enumerate(zip(tops[number], bottoms[number], strict=True)):
            for column, (left, right) in enumerate(zip(lefts[number], rights[number], strict=True)):
                if bottom > top and right > left:
                    window = input[image, :, top:bottom, left:right].flatten(1)
                    output[number, :, row, column], index = window.max(dim=1)
                    cell = (top + index // (right - left)) * width + left + index % (right - left)
                    argmax[number, :, row, column] = cell.to(argmax.dtype)


def _edges(low: Tensor, high: Tensor, scale: float, *, bins: int, cells: int) -> tuple[list, list]:
    """First cell and the one behind the last of each region's bins along one side: lists [n][bins]."""
    start = low * scale
    step = ((high + 1) * scale - start) / bins
    number = torch.arange(bins, device=low.device)
    first = (number * step[:, None] + start[:, None]).floor()
    behind = ((number + 1) * step[:, None] + start[:, None]).ceil()
    behind = torch.where(step[:, None] > 0, behind, first)  # malformed regions have no cells
    return first.long().clamp(0, cells).tolist(), behind.long().clamp(0, cells).tolist()


def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    *,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Fills `grad_input` [batch, channels, height, width] with the gradient; `argmax` is the forward's."""
    (grad,) = widened(grad_output)
    grad = grad * (argmax >= 0)
    total = torch.zeros_like(grad_input, dtype=grad.dtype).flatten(2)
    cells = argmax.long().clamp(min=0)
    for image in range(len(total)):
        chosen = rois[:, 0] == image
        by_channel = (tensor[chosen].transpose(0, 1).flatten(1) for tensor in (cells, grad))
        total[image].scatter_add_(1, *by_channel)
    grad_input.copy_(total.view_as(grad_input))
