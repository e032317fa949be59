"""Targets of masked patches: the code of a tokenizer, or the patch's own pixels."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.common.images import HALF


def normalised(pixels: Tensor, mean: Sequence[float] = HALF, std: Sequence[float] = HALF) -> Tensor:
    """uint8 pixels [batch, 3, height, width] in RGB -> float32, by the mean and std of values in 0..1."""
    shape = (3, 1, 1)
    shift, scale = (pixels.new_tensor(values, dtype=torch.float32).view(shape) for values in (mean, std))
    return (pixels.float() / 255 - shift) / scale


class ImageTarget(nn.Module):
    """Targets for the patches of images. They are never trained along with the model that predicts them.

    outputs: numbers that a model predicts of a patch; the rows of `mim_head`.
    """

    outputs: int

    @abstractmethod
    def view_size(self, grid: int) -> int:
        """Side in pixels of the images from which targets for a grid of `grid` × `grid` patches are made."""

    @abstractmethod
    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 [batch, 3, side, side] -> a target for each patch, [batch, patches] or [batch, patches, outputs]."""

    @abstractmethod
    def losses(self, predicted: Tensor, target: Tensor) -> Tensor:
        """The loss of each masked patch: [patches, outputs] and their targets -> float32 [patches]."""

    def hits(self, predicted: Tensor, target: Tensor) -> Tensor | None:
        """Number of patches predicted right, an int64 scalar; None where a target is not one of several."""
        return None


class CodeTarget(ImageTarget):
    """One of a number of codes for each patch, predicted with cross-entropy."""

    def losses(self, predicted: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(predicted.float(), target, reduction="none")

    def hits(self, predicted: Tensor, target: Tensor) -> Tensor:
        return (predicted.argmax(-1) == target).sum()


class PixelTarget(ImageTarget):
    """The pixels of each patch, less their mean and divided by their deviation, predicted with squared error.

    Mean and deviation are those of all pixels and channels of the patch. Source: MAE, arXiv 2111.06377, section 3
    ("reconstruction target") and Table 1d; row "pixel (w/ norm)" of BEiT-3's ablations.
    """

    EPSILON = 1e-6  # added to the variance

    def __init__(self, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.outputs = 3 * patch_size**2

    def view_size(self, grid: int) -> int:
        return grid * self.patch_size

    def forward(self, pixels: Tensor) -> Tensor:
        """float32 [batch, patches, patch rows × patch columns × channels]."""
        patches = F.pixel_unshuffle(pixels.float() / 255, self.patch_size)  # [batch, 3 × rows × columns, grid, grid]
        patches = patches.flatten(2).transpose(1, 2)
        patches = patches.unflatten(-1, (3, -1)).transpose(-1, -2).flatten(-2)  # channels last, as in MAE
        centred = patches - patches.mean(-1, keepdim=True)
        return centred / (patches.var(-1, keepdim=True) + self.EPSILON).sqrt()

    def losses(self, predicted: Tensor, target: Tensor) -> Tensor:
        return (predicted.float() - target).square().mean(-1)
