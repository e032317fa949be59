"""Maps at the strides that dense heads want, from those of a plain transformer, which all have the patch's stride."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from timm.layers import LayerNorm2d
from torch import Tensor, nn

FACTORS = (4, 2, 1, 0.5)  # of the patch grid: strides 4, 8, 16 and 32 with patches of 16 pixels


class SimpleFeaturePyramid(nn.Module):
    """ViTDet's pyramid of the last map (arXiv 2203.16527, Section 3): strides 4 to 32, and 64 by subsampling.

    Args:
        dim: channels of the map.
        out_channels: of every level.
    """

    def __init__(self, dim: int, out_channels: int = 256) -> None:
        super().__init__()
        self.levels = nn.ModuleList(self._level(dim, out_channels, factor) for factor in FACTORS)

    @staticmethod
    def _level(dim: int, out_channels: int, factor: float) -> nn.Sequential:
        scaled = {4: dim // 4, 2: dim // 2}.get(factor, dim)
        return nn.Sequential(
            _rescale(dim, factor, half=dim // 2, out=scaled),
            nn.Conv2d(scaled, out_channels, 1, bias=False),
            LayerNorm2d(out_channels),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            LayerNorm2d(out_channels),
        )

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Maps of which the last, [batch, dim, height, width], is taken -> five of [batch, out_channels, …]."""
        levels = [level(maps[-1]) for level in self.levels]
        return (*levels, F.max_pool2d(levels[-1], kernel_size=1, stride=2))


class MapPyramid(nn.Module):
    """Four maps of evenly spaced layers, each to a stride of its own: what UPerNet takes of a plain transformer.

    As in BEiT's segmentation code, but with LayerNorm for its SyncBN, so that no batch statistics are kept.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(_rescale(dim, factor, half=dim, out=dim) for factor in FACTORS)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Four of [batch, dim, height, width] -> [batch, dim, 4 height, 4 width] to [batch, dim, height / 2, …]."""
        return tuple(level(features) for level, features in zip(self.levels, maps, strict=True))


def _rescale(dim: int, factor: float, *, half: int, out: int) -> nn.Module:
    if factor == 4:
        doubled = nn.ConvTranspose2d(dim, half, kernel_size=2, stride=2)
        return nn.Sequential(
            doubled, LayerNorm2d(half), nn.GELU(), nn.ConvTranspose2d(half, out, kernel_size=2, stride=2)
        )
    if factor == 2:
        return nn.ConvTranspose2d(dim, out, kernel_size=2, stride=2)
    return nn.Identity() if factor == 1 else nn.MaxPool2d(2)
