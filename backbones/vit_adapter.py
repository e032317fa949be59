"""ViT-Adapter: a plain transformer's maps at strides 4 to 32, made with a small convolutional branch beside it.

Chen et al., Vision Transformer Adapter for Dense Predictions, arXiv 2205.08534. The branch's tokens (strides 8, 16
and 32) and the transformer's patches exchange features by deformable attention before and after each quarter of
the layers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn

from backbones.deformable import DeformableAttention, Grid
from backbones.errors import UsageError

if TYPE_CHECKING:
    from backbones.multiway import Multiway
    from backbones.timm_backbone import TimmBackbone

STAGES = 4
POINTS = 4  # of each head in each map
VALUE_RATIO = 0.5  # width of the deformable attention's values
HIDDEN_RATIO = 0.25  # of the extractors' feed-forward
INJECTOR_SCALE = 1e-6  # nearly nothing at first: the transformer begins as it was pretrained
STEM_CHANNELS = 64
LAST_EXTRACTORS = 3  # of the last stage
GROUPS = 32  # of group normalisation

Norm = Literal["batch", "group"]


class ViTAdapter(nn.Module):
    """Four maps [batch, dim, …] of strides 4, 8, 16 and 32 from an image and a plain transformer.

    The transformer is an argument of `forward`, not a part: its parameters stay where its owner has them.
    """

    def __init__(self, backbone: Multiway | TimmBackbone, *, drop_path: float = 0.0, norm: Norm = "batch") -> None:
        """
        Args:
            drop_path: rate at which a training sample skips the feed-forward of an extractor, the same in each.
            norm: "batch" as published, whose statistics are those of the images that a step normalises together; or
                "group", which looks at each image by itself.

        Raises:
            UsageError: a backbone that cannot be run layer by layer.
        """
        super().__init__()
        if not backbone.runs_by_layers:
            raise UsageError(
                "The ViT-Adapter runs between a backbone's layers: use a Multiway backbone, or timm's plain vision "
                "transformers and BEiT."
            )
        dim, heads = backbone.dim, backbone.heads
        self.prior = SpatialPrior(dim, norm=norm)
        self.level_embed = nn.Parameter(torch.empty(STAGES - 1, dim).normal_())
        extractors = [1] * (STAGES - 1) + [LAST_EXTRACTORS]
        self.stages = nn.ModuleList(
            Interaction(dim, heads=heads, extractors=count, drop_path=drop_path) for count in extractors
        )
        self.up = nn.ConvTranspose2d(dim, dim, kernel_size=2, stride=2)
        self.norms = nn.ModuleList(_norm(dim, norm) for _ in range(STAGES))
        self.apply(_initialise)

    def forward(self, backbone: Multiway | TimmBackbone, image: Tensor) -> tuple[Tensor, ...]:
        """image: float [batch, 3, height, width], sides multiples of the patch size."""
        finest, *maps = self.prior(image)  # [batch, dim, height / 4, width / 4]; strides 8, 16 and 32
        grids = [tuple(features.shape[-2:]) for features in maps]
        # Tokens of the three maps one after another: [batch, cells of all maps, dim].
        side = torch.cat(
            [_tokens(features) + level for features, level in zip(maps, self.level_embed, strict=True)], dim=1
        )
        grid = (image.shape[-2] // backbone.patch_size, image.shape[-1] // backbone.patch_size)
        tokens, prefix = backbone.embed_image(image), backbone.prefix_tokens  # [batch, prefix + patches, dim]
        seen = []  # of each quarter the patches as a map [batch, dim, *grid]
        for stage, layers in zip(self.stages, quarters(backbone.map_layers), strict=True):
            first, patches = tokens[:, :prefix], stage.inject(tokens[:, prefix:], side, grid, grids)
            tokens = backbone.image_layers(torch.cat([first, patches], dim=1), layers)
            side = stage.extract(side, tokens[:, prefix:], grids, grid)
            seen.append(_map(tokens[:, prefix:], grid))
        levels = side.split([rows * columns for rows, columns in grids], dim=1)
        maps = [_map(cells, grid) for cells, grid in zip(levels, grids, strict=True)]
        maps = [self.up(maps[0]) + finest, *maps]  # [batch, dim, …] of strides 4, 8, 16 and 32
        return tuple(
            norm(own + F.interpolate(patches.float(), size=own.shape[-2:], mode="bilinear").to(own.dtype))
            for norm, own, patches in zip(self.norms, maps, seen, strict=True)
        )


def _norm(channels: int, kind: Norm) -> nn.Module:
    return nn.BatchNorm2d(channels) if kind == "batch" else nn.GroupNorm(min(GROUPS, channels), channels)


@torch.no_grad()
def _initialise(module: nn.Module) -> None:
    """Initialize as in the source: normal of std 0.02, of convolutions the std that keeps the gradients' size."""
    if isinstance(module, DeformableAttention):
        module.reset_parameters()  # after its parts
    elif isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        outputs = math.prod(module.kernel_size) * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / outputs))
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def quarters(layers: int) -> list[range]:
    """The layers of a transformer in four consecutive groups, as equal as possible."""
    bounds = [round(layers * number / STAGES) for number in range(STAGES + 1)]
    return [range(first, last) for first, last in itertools.pairwise(bounds)]


class SpatialPrior(nn.Module):
    """Convolutions from an image to maps of strides 4, 8, 16 and 32 with `dim` channels."""

    def __init__(self, dim: int, *, norm: Norm) -> None:
        super().__init__()
        width = STEM_CHANNELS
        self.stem = nn.Sequential(
            _convolution(3, width, norm=norm, stride=2),
            _convolution(width, width, norm=norm),
            _convolution(width, width, norm=norm),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        widths = [width, 2 * width, 4 * width, 4 * width]
        self.downs = nn.ModuleList(_convolution(a, b, norm=norm, stride=2) for a, b in itertools.pairwise(widths))
        self.projections = nn.ModuleList(nn.Conv2d(channels, dim, 1) for channels in widths)

    def forward(self, image: Tensor) -> list[Tensor]:
        """[batch, 3, height, width] -> [batch, dim, height / s, width / s] for s = 4, 8, 16 and 32."""
        maps = [self.stem(image)]
        for down in self.downs:
            maps.append(down(maps[-1]))
        return [projection(features) for projection, features in zip(self.projections, maps, strict=True)]


def _convolution(channels: int, out: int, *, norm: Norm, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out, 3, stride=stride, padding=1, bias=False), _norm(out, norm), nn.ReLU(inplace=True)
    )


class Interaction(nn.Module):
    """One exchange: the side tokens' features into the patches before some layers, and back after them."""

    def __init__(self, dim: int, *, heads: int, extractors: int, drop_path: float) -> None:
        super().__init__()
        self.injector = DeformableCross(dim, heads=heads, levels=STAGES - 1)
        self.scale = nn.Parameter(torch.full((dim,), INJECTOR_SCALE))
        self.extractors = nn.ModuleList(Extractor(dim, heads=heads, drop_path=drop_path) for _ in range(extractors))

    def inject(self, patches: Tensor, side: Tensor, grid: Grid, grids: Sequence[Grid]) -> Tensor:
        """Patches [batch, patches, dim] with features of the side tokens [batch, cells of all maps, dim]."""
        return patches + self.scale * self.injector(patches, side, [grid], grids)

    def extract(self, side: Tensor, patches: Tensor, grids: Sequence[Grid], grid: Grid) -> Tensor:
        """Side tokens [batch, cells of all maps, dim] with features of the patches [batch, patches, dim]."""
        for extractor in self.extractors:
            side = extractor(side, patches, grids, grid)
        return side


class Extractor(nn.Module):
    """Side tokens look at the patches, then pass a feed-forward that mixes neighbours.

    Stochastic depth skips the feed-forward only, as in the source.
    """

    def __init__(self, dim: int, *, heads: int, drop_path: float) -> None:
        super().__init__()
        hidden = int(dim * HIDDEN_RATIO)
        self.cross = DeformableCross(dim, heads=heads, levels=1)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.fc1 = nn.Linear(dim, hidden)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.fc2 = nn.Linear(hidden, dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, side: Tensor, patches: Tensor, grids: Sequence[Grid], grid: Grid) -> Tensor:
        """Side tokens [batch, cells of all maps, dim] and patches [batch, patches, dim] -> side tokens."""
        side = side + self.cross(side, patches, grids, [grid])
        # Of each map [batch, its cells, hidden].
        levels = self.fc1(self.norm(side)).split([rows * columns for rows, columns in grids], dim=1)
        mixed = [_tokens(self.depthwise(_map(cells, size))) for cells, size in zip(levels, grids, strict=True)]
        return side + self.drop_path(self.fc2(F.gelu(torch.cat(mixed, dim=1))))


class DeformableCross(nn.Module):
    """Deformable cross-attention from the tokens of one set of feature maps to another."""

    def __init__(self, dim: int, *, heads: int, levels: int) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(dim, eps=1e-6)
        self.value_norm = nn.LayerNorm(dim, eps=1e-6)
        self.attention = DeformableAttention(dim, heads=heads, levels=levels, points=POINTS, value_ratio=VALUE_RATIO)

    def forward(self, query: Tensor, value: Tensor, query_grids: Sequence[Grid], grids: Sequence[Grid]) -> Tensor:
        """query [batch, cells of `query_grids`, dim], value [batch, cells of `grids`, dim] -> as query."""
        references = torch.cat([_centres(grid, query) for grid in query_grids])[None, :, None]  # [1, queries, 1, 2]
        return self.attention(self.query_norm(query), self.value_norm(value), references, grids)


def _centres(grid: Grid, like: Tensor) -> Tensor:
    """Patch centres as (x, y) in 0..1: float32 [rows * columns, 2]."""
    rows, columns = ((torch.arange(length, dtype=torch.float32, device=like.device) + 0.5) / length for length in grid)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=-1)


def _tokens(features: Tensor) -> Tensor:
    """[batch, dim, rows, columns] -> [batch, rows * columns, dim]."""
    return features.flatten(2).transpose(1, 2)


def _map(tokens: Tensor, grid: Grid) -> Tensor:
    """[batch, rows * columns, dim] -> [batch, dim, rows, columns]."""
    return tokens.transpose(1, 2).unflatten(2, grid)
