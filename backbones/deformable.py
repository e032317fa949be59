"""Multi-scale deformable attention as a module (Zhu et al. 2021, arXiv 2010.04159, equation 2)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from backbones import operators

Grid = tuple[int, int]  # rows and columns of a map


class DeformableAttention(nn.Module):
    """Attention of queries to a few sampled points around their own positions on the maps of several levels.

    Parameters have the names and initial values of mmcv's MultiScaleDeformableAttention. In contrast to it, sizes of
    maps are numbers and not tensors, so that no call waits for a GPU, and what is sampled is computed in float32
    whatever the precision around it, by mmcv's compiled operator too, which knows no bfloat16.

    Args:
        value_ratio: width of the values as a share of `dim`.
    """

    def __init__(self, dim: int, *, heads: int, levels: int, points: int, value_ratio: float = 1.0) -> None:
        super().__init__()
        self.heads, self.levels, self.points = heads, levels, points
        width = int(dim * value_ratio)
        self.sampling_offsets = nn.Linear(dim, heads * levels * points * 2)
        self.attention_weights = nn.Linear(dim, heads * levels * points)
        self.value_proj = nn.Linear(dim, width)
        self.output_proj = nn.Linear(width, dim)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Initialize equal weights, and points in another direction for each head, one cell apart."""
        for layer in (self.sampling_offsets, self.attention_weights):
            nn.init.zeros_(layer.weight)
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.attention_weights.bias)
        angles = torch.arange(self.heads) * (2 * math.pi / self.heads)
        directions = torch.stack([angles.cos(), angles.sin()], dim=-1)  # [heads, 2]
        directions /= directions.abs().amax(dim=-1, keepdim=True)
        steps = torch.arange(1, self.points + 1)[:, None]
        offsets = (directions[:, None, None] * steps).expand(-1, self.levels, -1, -1)  # [heads, levels, points, 2]
        self.sampling_offsets.bias.copy_(offsets.flatten())

    def forward(self, query: Tensor, value: Tensor, references: Tensor, grids: Sequence[Grid]) -> Tensor:
        """
        Args:
            query: [batch, queries, dim].
            value: [batch, cells, dim], the cells of all levels one after the other, each level row by row.
            references: the queries' positions, (x, y) in 0..1; float32, broadcastable to [batch, queries, levels, 2].
            grids: size of each level.

        Returns:
            [batch, queries, dim], without the query itself.
        """
        samples = (self.heads, self.levels, self.points)
        cells = self.value_proj(value).unflatten(-1, (self.heads, -1))  # [batch, cells, heads, head width]
        # [batch, queries, heads, levels, points, 2], in cells of each level
        offsets = self.sampling_offsets(query).unflatten(-1, (*samples, 2)).float()
        # [batch, queries, heads, levels * points]
        weights = self.attention_weights(query).unflatten(-1, (self.heads, -1)).float().softmax(-1)
        sizes = torch.tensor([(columns, rows) for rows, columns in grids], dtype=torch.float32)
        sizes = sizes.to(query.device, non_blocking=True)[:, None]  # [levels, 1, 2]
        locations = references[:, :, None, :, None] + offsets / sizes  # [batch, queries, heads, levels, points, 2]
        return self.output_proj(sampled(cells, grids, locations, weights.unflatten(-1, samples[1:])))


def sampled(value: Tensor, grids: Sequence[Grid], locations: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of bilinear samples in float32, returned in the type of `value`; see `operators.provide`.

    On a GPU mmcv's compiled operator computes them where a full mmcv is installed.
    """
    if value.is_cuda and operators.compiled():
        return compiled(value, grids, locations, weights)
    from backbones.operators.deformable_attention import deformable_attention

    return deformable_attention(value, grids, locations, weights)


def compiled(value: Tensor, grids: Sequence[Grid], locations: Tensor, weights: Tensor) -> Tensor:
    """mmcv's own operator, which converts locations and weights to the type of `value`: float32 here."""
    from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction

    sizes = torch.tensor(grids)
    starts = sizes.prod(1).cumsum(0) - sizes.prod(1)
    tensors = (tensor.to(value.device, non_blocking=True) for tensor in (sizes, starts))
    with torch.autocast(value.device.type, enabled=False):
        found = MultiScaleDeformableAttnFunction.apply(
            value.float(), *tensors, locations.float().contiguous(), weights.float().contiguous(), 64
        )
    return found.to(value.dtype)
