"""Position tables of the Multiway transformer, and how they fit another size of image.

Rows 0 and 1 of each table are never used (an offset that the official models inherited from fairseq). The
image table goes on with the class token and the patches in row-major order.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.errors import InputError

UNUSED_ROWS = 2


class PositionTable(nn.Module):
    """A learned table [rows, dim]; small random rows at first."""

    def __init__(self, rows: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, dim))
        nn.init.trunc_normal_(self.weight, std=0.02)


def image_positions(table: Tensor, grid: tuple[int, int]) -> Tensor:
    """Positions of the class token and of `grid` = (rows, columns) patches: [1 + rows * columns, dim]."""
    return resize_image_table(table, grid)[UNUSED_ROWS:]


def resize_image_table(table: Tensor, grid: tuple[int, int]) -> Tensor:
    """The image position table for another grid of patches.

    The unused rows and the class token's stay; the square patch grid is resized bicubically with
    align_corners=False, which is what the official fine-tuning code does.
    """
    side = math.isqrt(len(table) - UNUSED_ROWS - 1)
    if grid == (side, side):
        return table
    kept, patches = table[: UNUSED_ROWS + 1], table[UNUSED_ROWS + 1 :]
    square = patches.float().reshape(1, side, side, -1).permute(0, 3, 1, 2)
    resized = F.interpolate(square, size=grid, mode="bicubic", align_corners=False)
    return torch.cat([kept, resized.flatten(2).squeeze(0).T.to(table.dtype)])


def resize_relative_table(table: Tensor, rows: int) -> Tensor:
    """A table of relative positions [2 * side - 1, dim] for another side of map, linearly as in detectron2."""
    if len(table) == rows:
        return table
    return F.interpolate(table.T[None].float(), size=rows, mode="linear")[0].T.to(table.dtype)


def resize_patch_kernel(kernel: Tensor, patch_size: int) -> Tensor:
    """A patch embedding's kernel [dim, 3, patch, patch] for another patch size, bicubically as EVA's from 14 to 16."""
    resized = F.interpolate(kernel.float(), size=(patch_size, patch_size), mode="bicubic", align_corners=False)
    return resized.to(kernel.dtype)


def require_whole_patches(image: Tensor, patch_size: int) -> None:
    """Check that an image [..., height, width] is a whole number of patches, since what is left over would be cut off.

    Heads that resize a map to the image would then read every pixel from a little further left and up.

    Raises:
        InputError: a side is not a multiple of the patch size.
    """
    height, width = image.shape[-2:]
    if height % patch_size or width % patch_size:
        raise InputError(
            f"An image of {width} × {height} pixels is not a whole number of patches of {patch_size} × {patch_size}. "
            f"Pad it to multiples of {patch_size} (in a config of MMDetection, data_preprocessor=dict(pad_size_divisor="
            "32); of MMSegmentation, data_preprocessor=dict(test_cfg=dict(size_divisor=32)))."
        )
