"""A Multiway transformer as a detector's backbone: attention in windows, with relative positions.

At 1,024 pixels every layer attending everywhere would cost 4,096² scores a head; so most layers attend within
windows, and a few evenly placed ones everywhere. Form and numbers are ViTDet's (Li et al., arXiv 2203.16527, and
its detectron2 project): no class token, windows padded with zeros where the map is not a multiple of them,
decomposed relative positions (Li et al., MViTv2, arXiv 2112.01526) in every layer, which start at zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.attention import attend
from backbones.config import MultiwayConfig
from backbones.layer import IMAGE, Layer
from backbones.multiway import Multiway
from backbones.positions import resize_relative_table

MAX_BIAS_ELEMENTS = 1 << 26  # attention scores whose bias is made at once: 256 MiB in float32


class RelativePositions(nn.Module):
    """Relative position bias: what the distance of two patches along each side adds to their attention score.

    Tables are [2 * grid - 1, head dim] for maps of grid x grid patches; for another size they are interpolated.
    """

    def __init__(self, grid: int, head_dim: int) -> None:
        super().__init__()
        self.height = nn.Parameter(torch.zeros(2 * grid - 1, head_dim))
        self.width = nn.Parameter(torch.zeros(2 * grid - 1, head_dim))

    def mix(self, query: Tensor, key: Tensor, value: Tensor, *, grid: tuple[int, int]) -> Tensor:
        """Attention over maps of `grid` = (rows, columns) patches: three [batch, heads, patches, head dim] -> one.

        The bias of query q and key k is q · height[row(q) - row(k)] + q · width[column(q) - column(k)]. It is made
        for some rows of queries at a time, since for all at once it has the size of the attention scores.
        """
        rows, columns = grid
        patches = query.unflatten(2, grid)  # [batch, heads, rows, columns, head dim]
        # Terms of each query with each row, and with each column, of keys: [batch, heads, rows, columns, their number].
        by_row = torch.einsum("bhrcd,rkd->bhrck", patches, _of_distance(self.height, rows).to(query.dtype))
        by_column = torch.einsum("bhrcd,ckd->bhrck", patches, _of_distance(self.width, columns).to(query.dtype))
        by_row, by_column = by_row.contiguous(), by_column.contiguous()  # adding them up then runs through memory once
        at_once = max(MAX_BIAS_ELEMENTS // (query.shape[0] * query.shape[1] * columns * rows * columns), 1)
        mixed = []
        for first in range(0, rows, at_once):
            some = slice(first, first + at_once)  # rows of queries
            # [batch, heads, some rows, columns, rows of keys, columns of keys]
            bias = by_row[:, :, some, :, :, None] + by_column[:, :, some, :, None, :]
            queries = patches[:, :, some].flatten(2, 3)  # [batch, heads, queries, head dim]
            mixed.append(attend(queries, key, value, bias.flatten(4, 5).flatten(2, 3)))  # [batch, heads, queries, keys]
        return mixed[0] if len(mixed) == 1 else torch.cat(mixed, dim=2)


def _of_distance(table: Tensor, size: int) -> Tensor:
    """The rows of a table for every pair of positions along a side: [size, size, head dim]."""
    table = resize_relative_table(table, 2 * size - 1)  # by distance, from 1 - size to size - 1
    positions = torch.arange(size, device=table.device)
    return table[positions[:, None] - positions[None, :] + size - 1]


class WindowedMultiway(Multiway):
    """The image side of a Multiway transformer with `config.window` and `config.global_layers`; made for `maps`."""

    fresh_parts = ("relative.",)  # what pretrained weights do not have
    prefix_tokens = 0

    def __init__(self, config: MultiwayConfig) -> None:
        super().__init__(config)
        self.relative = nn.ModuleList(
            RelativePositions(config.grid if self._is_global(index) else config.window, config.dim // config.heads)
            for index in range(config.layers)
        )

    def maps(self, image: Tensor, layers: Sequence[int]) -> tuple[Tensor, ...]:
        """Patch tokens after the given layers as [batch, dim, height / patch, width / patch] maps."""
        tokens = self.embed_image(image)[:, 1:]  # [batch, patches, dim]
        grid = tuple(side // self.config.patch_size for side in image.shape[-2:])
        kept = {}
        for layer in self.encoder.layers:
            tokens = self._checkpointed(self._attend_and_feed, layer, tokens, grid)
            if layer.index in layers:
                kept[layer.index] = tokens.transpose(1, 2).unflatten(2, grid)
        return tuple(kept[index] for index in layers)

    def _attend_and_feed(self, layer: Layer, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        relative = self.relative[layer.index]
        size = grid if self._is_global(layer.index) else (self.config.window,) * 2

        def mix(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            return relative.mix(query, key, value, grid=size)

        def attention(normed: dict[str, Tensor]) -> dict[str, Tensor]:
            windows = into_windows(normed[IMAGE].unflatten(1, grid), size)  # [batch * windows, *size, dim]
            mixed = layer.self_attn({IMAGE: windows.flatten(1, 2)}, mix)[IMAGE]
            return {IMAGE: out_of_windows(mixed.unflatten(1, size), grid).flatten(1, 2)}

        return layer({IMAGE: tokens}, attention=attention)[IMAGE]

    def _is_global(self, index: int) -> bool:
        return index in self.config.global_layers

    def layer_id(self, name: str) -> int:
        """As of other parameters: relative positions have their layer's depth."""
        return int(name.split(".")[1]) + 1 if name.startswith("relative.") else super().layer_id(name)

    def freeze_unused_by_images(self) -> None:
        """Freeze what `maps` never touches: there is no class token here."""
        super().freeze_unused_by_images()
        self.vision_embed.cls_token.requires_grad_(False)

    def own_key(self, name: str) -> str | None:
        """See `Multiway.own_key`."""
        return name if name.startswith("relative.") else super().own_key(name)

    def resized(self, name: str, tensor: Tensor, like: Tensor) -> Tensor | None:
        """See `Multiway.resized`; tables of relative positions have the size of their maps."""
        if name.startswith("relative."):
            return resize_relative_table(tensor, len(like))
        return super().resized(name, tensor, like)


def into_windows(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut [batch, height, width, dim] into windows: [batch * windows, *size, dim], padded with zeros at the ends."""
    height, width = maps.shape[1:3]
    if (height, width) == size:
        return maps
    maps = F.pad(maps, (0, 0, 0, -width % size[1], 0, -height % size[0]))
    # [batch, windows down, rows, windows across, columns, dim], then both counts of windows together in front.
    return maps.unflatten(1, (-1, size[0])).unflatten(3, (-1, size[1])).transpose(2, 3).flatten(0, 2)


def out_of_windows(windows: Tensor, grid: tuple[int, int]) -> Tensor:
    """Put the windows of `into_windows` together again: [batch, *grid, dim]."""
    size = windows.shape[1:3]
    if size == grid:
        return windows
    counts = [-(-length // side) for length, side in zip(grid, size, strict=True)]
    # [batch, windows down, windows across, rows, columns, dim] -> [batch, height, width, dim], still padded
    maps = windows.unflatten(0, (-1, *counts)).transpose(2, 3).flatten(3, 4).flatten(1, 2)
    return maps[:, : grid[0], : grid[1]].contiguous()
