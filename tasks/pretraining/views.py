"""Views of an image for pretraining: crop, flip and colours are drawn once, and every view shares them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import ColorJitter, RandomResizedCrop
from torchvision.transforms.functional import hflip, pil_to_tensor

from tasks.common.images import open_image
from tasks.pretraining import shards

ASPECT = (3 / 4, 4 / 3)  # width / height of a crop


def opened(inputs: Mapping[str, Any]) -> Image.Image:
    """The image of a sample, from its file or its shard, RGB.

    Raises:
        InputError: it is absent or cannot be decoded.
    """
    if "shard" in inputs:
        return shards.image(Path(inputs["shard"]), inputs["offset"], inputs["size"])
    return open_image(Path(inputs["image"]))


@dataclass(frozen=True, kw_only=True)
class Views:
    """Corrupted views of one image, uint8 [3, side, side] in RGB; each model normalises its own.

    The crop is resized to the largest side; flip and colours are applied there, and smaller views are made of that.

    sides: pixels of each view.
    smallest_crop: share of the image's area.
    color_jitter: of brightness, contrast and saturation, as a share; 0: none.
    flip: from left to right, half of the time.
    """

    sides: tuple[int, ...]
    smallest_crop: float = 1.0
    color_jitter: float = 0.0
    flip: bool = False

    def __call__(self, image: Image.Image) -> tuple[Tensor, ...]:
        """Draw the views, with PyTorch's generator."""
        side = max(self.sides)
        top, left, height, width = RandomResizedCrop.get_params(image, (self.smallest_crop, 1.0), ASPECT)
        box = (left, top, left + width, top + height)
        shared = image.resize((side, side), Image.Resampling.BICUBIC, box=box)
        if self.flip and torch.rand(()) < 0.5:
            shared = hflip(shared)
        if self.color_jitter:
            shared = ColorJitter(*(self.color_jitter,) * 3)(shared)
        return tuple(pil_to_tensor(_resized(shared, own)) for own in self.sides)


def _resized(image: Image.Image, side: int) -> Image.Image:
    return image if image.width == side else image.resize((side, side), Image.Resampling.BICUBIC)
