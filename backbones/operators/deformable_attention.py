"""Multi-scale deformable attention (Zhu et al. 2021, arXiv:2010.04159, equation 3), forward and backward.

Each query takes, per head, a weighted sum of bilinear samples from the maps of several levels. A sample is itself a
weighted sum of the four cells around it, so the whole is a sum of rows of the values with weights: an embedding bag,
which reads the rows in place and writes nothing but the sum. (Sampling each level with `grid_sample` writes every
sample first: 0.8 GB an image and layer in Mask2Former's pixel decoder at 896 px.)

- Values get a border of zeros, which is what is outside a map; points further out move onto it. Then every sample
  has four cells, at fixed distances from the first of them.
- Backward by location and weight is autograd through the same sum, computed again.
- Backward by value sorts the samples by their first cell: what a cell receives is a bag of gradients. No addition
  depends on the order of threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from backbones.operators.precision import widened

Shapes = Sequence[tuple[int, int]]

# Samples of one level at a time. On a CPU what is computed of them stays in the cache of a core that way, which is
# worth a factor of six; a GPU wants few, large calls.
AT_A_TIME = {"cpu": 2**15}
AT_A_TIME_ELSEWHERE = 2**22


def deformable_attention(value: Tensor, shapes: Tensor | Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of samples, differentiable once by all but `shapes`.

    The arguments are those of mmcv's `multi_scale_deformable_attn_pytorch`. Computed in float32 where the inputs have
    less.

    Args:
        value: [batch, cells, heads, dim], the cells of all levels one after the other, each level row by row.
        shapes: [levels, 2], height and width of each level.
        locations: [batch, queries, heads, levels, points, 2], (x, y) with 0 and 1 at the outer edges of the map.
        weights: [batch, queries, heads, levels, points].

    Returns:
        [batch, queries, heads · dim] in the type of `value`.
    """
    return _DeformableAttention.apply(value, _as_pairs(shapes), locations, weights)


def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    *,
    im2col_step: int,
) -> Tensor:
    """mmcv's operator: `deformable_attention` without a gradient.

    Args:
        value_level_start_index: not needed, levels follow each other.
        im2col_step: not needed, images are computed one by one.
    """
    return _forward(value, _as_pairs(value_spatial_shapes), sampling_locations, attention_weights)


def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    *,
    im2col_step: int,
) -> None:
    """mmcv's operator: fills the last three tensors with the gradients by value, locations and weights."""
    shapes = _as_pairs(value_spatial_shapes)
    found = _backward(value, shapes, sampling_locations, attention_weights, grad_output)
    for into, grad in zip((grad_value, grad_sampling_loc, grad_attn_weight), found, strict=True):
        into.copy_(grad)


class _DeformableAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor
    ) -> Tensor:
        ctx.save_for_backward(value, locations, weights)
        ctx.shapes = shapes
        return _forward(value, shapes, locations, weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        value, locations, weights = ctx.saved_tensors
        by_value, by_locations, by_weights = _backward(value, ctx.shapes, locations, weights, grad)
        return by_value, None, by_locations, by_weights


def _as_pairs(shapes: Tensor | Shapes) -> Shapes:
    return [tuple(pair) for pair in (shapes.tolist() if isinstance(shapes, Tensor) else shapes)]


def _forward(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    dtype = value.dtype
    value, locations, weights = widened(value, locations, weights)
    out = value.new_zeros(*locations.shape[:2], value.shape[2] * value.shape[3])
    for image in range(len(value)):
        for level, (cells, shape) in enumerate(_levels(shapes)):
            table = _with_border(value[image, cells], shape)
            places, shares = locations[image, :, :, level], weights[image, :, :, level]
            for part in _parts(shares):
                out[image, part] += _bags(table, shape, places[part], shares[part])
    return out.to(dtype)


def _backward(
    value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    by_value, by_locations, by_weights = (torch.empty_like(tensor) for tensor in (value, locations, weights))
    value, locations, weights, grad = widened(value, locations, weights, grad)
    for image in range(len(value)):
        for level, (cells, shape) in enumerate(_levels(shapes)):
            table = _with_border(value[image, cells], shape)
            places, shares = locations[image, :, :, level], weights[image, :, :, level]
            for part in _parts(shares):
                found = _by_samples(table, shape, places[part], shares[part], grad[image, part])
                by_locations[image, part, :, level], by_weights[image, part, :, level] = found
            by_value[image, cells] = _by_value(shape, places, shares, grad[image])
    return by_value, by_locations, by_weights


def _levels(shapes: Shapes) -> Iterator[tuple[slice, tuple[int, int]]]:
    """Cells of each level, with its height and width."""
    start = 0
    for height, width in shapes:
        yield slice(start, start + height * width), (height, width)
        start += height * width


def _parts(weights: Tensor) -> Iterator[slice]:
    """Slices of the queries of [queries, heads, points]."""
    samples = AT_A_TIME.get(weights.device.type, AT_A_TIME_ELSEWHERE)
    step = max(1, samples // weights[0].numel()) if len(weights) else 1
    return (slice(first, first + step) for first in range(0, len(weights), step))


def _with_border(value: Tensor, shape: tuple[int, int]) -> Tensor:
    """[height · width, heads, dim] -> rows [(height + 2) · (width + 2) · heads, dim], zero around the map."""
    return F.pad(value.unflatten(0, shape), (0, 0, 0, 0, 1, 1, 1, 1)).flatten(0, 2)


def _bags(table: Tensor, shape: tuple[int, int], locations: Tensor, weights: Tensor) -> Tensor:
    """Sums over the points of one level, [queries, heads · dim]; rows [rows, dim] with a border."""
    first, corners = _corners(shape, locations, weights)
    sums = [
        F.embedding_bag(first + step, table, mode="sum", per_sample_weights=weight)
        for step, weight in zip(_steps(shape, weights.shape[1]), corners, strict=True)
    ]
    return (sums[0] + sums[1] + sums[2] + sums[3]).view(len(weights), -1)


def _corners(shape: tuple[int, int], locations: Tensor, weights: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Of each sample the row of its upper left cell, int32, and the weights of that cell, the one to its right, and
    the two below: [queries · heads, points] each.
    """
    heads, points = weights.shape[1:]
    x, right = _cell(locations[..., 0], shape[1])
    y, below = _cell(locations[..., 1], shape[0])
    head = torch.arange(heads, dtype=torch.int32, device=weights.device)[:, None]
    first = (y * (shape[1] + 2) + x) * heads + head
    on_right = weights * right
    on_left = weights - on_right
    low_right, low_left = on_right * below, on_left * below
    corners = (on_left - low_left, on_right - low_right, low_left, low_right)
    return first.view(-1, points), [corner.reshape(-1, points) for corner in corners]


def _cell(location: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    """Along one side with a border: the cell, int32, whose centre is at or before the location, and how far behind."""
    position = (location * cells + 0.5).clamp(0, cells + 1)
    cell = position.detach().int().clamp(0, cells)  # again: a NaN may become any number
    return cell, position - cell


def _steps(shape: tuple[int, int], heads: int) -> tuple[int, int, int, int]:
    """Rows from a sample's first cell to each of its four."""
    below = (shape[1] + 2) * heads
    return 0, heads, below, below + heads


def _by_samples(
    table: Tensor, shape: tuple[int, int], locations: Tensor, weights: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradients by locations and weights of one level, from that by the output [queries, heads · dim]."""
    inputs = (locations.detach().requires_grad_(), weights.detach().requires_grad_())
    with torch.enable_grad():
        first, corners = _corners(shape, *inputs)
    sources = grad.reshape(len(first), 1, -1)
    by_corners = [(F.embedding(first + step, table) * sources).sum(-1) for step in _steps(shape, weights.shape[1])]
    return torch.autograd.grad(corners, inputs, by_corners)


def _by_value(shape: tuple[int, int], locations: Tensor, weights: Tensor, grad: Tensor) -> Tensor:
    """The gradient [height · width, heads, dim] by the values of one level, from that by the output [queries, …]."""
    heads, points = weights.shape[1:]
    first, corners = _corners(shape, locations, weights)
    sources = grad.reshape(len(weights) * heads, -1)
    rows, order = first.view(-1).sort(stable=True)
    padded = (shape[0] + 2, shape[1] + 2)
    starts = torch.searchsorted(rows, torch.arange(padded[0] * padded[1] * heads, dtype=rows.dtype, device=rows.device))
    total = sources.new_zeros(len(starts), sources.shape[1])
    for step, weight in zip(_steps(shape, heads), corners, strict=True):
        received = F.embedding_bag(
            order // points, sources, starts, mode="sum", per_sample_weights=weight.view(-1)[order]
        )
        total[step:] += received[: len(received) - step]
    return total.view(*padded, heads, -1)[1:-1, 1:-1].flatten(0, 1)
