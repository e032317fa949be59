"""Features of patches that a tokenizer is taught to keep, or that are clustered."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

import backbones
from backbones import weights
from backbones.errors import InputError
from tasks.pretraining.targets import normalised

HEAD = "vision_head"  # of a dual encoder, under its official name


class Teacher(nn.Module):
    """A frozen backbone whose last patch tokens are the features; those of a dual encoder go through its image head.

    That is how VQ-KD takes CLIP's (BEiT v2, arXiv 2208.06366, section 3.1): all patch tokens through the projection
    that is trained on the class token alone.

    dim: of a feature.
    grid: patches along a side of the images that the teacher was built for.
    """

    def __init__(self, backbone: nn.Module, *, grid: int, dual_encoder: bool) -> None:
        super().__init__()
        self.grid = grid
        self.beit3 = backbone
        self.vision_head = nn.Linear(backbone.dim, backbone.dim, bias=False) if dual_encoder else nn.Identity()
        self.dim: int = backbone.dim
        self.eval().requires_grad_(False)

    def view_size(self, grid: int) -> int:
        """Side in pixels of the images that have `grid` × `grid` patches."""
        return grid * self.beit3.patch_size

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 [batch, 3, side, side] -> [batch, patches, dim]."""
        image = normalised(pixels, self.beit3.pixel_mean, self.beit3.pixel_std)
        return self.vision_head(self.beit3(image=image).tokens[:, self.beit3.prefix_tokens :])

    def train(self, mode: bool = True) -> Teacher:
        """Stay as it is, whatever the model around it does."""
        return super().train(False)


def read_teacher(backbone: str, path: Path, *, grid: int, options: Mapping[str, object] | None = None) -> Teacher:
    """A teacher with weights from a file, of a backbone alone or of a dual encoder.

    Args:
        grid: patches along a side of the tokenizer's images.
        options: see `backbones.build`.

    Raises:
        InputError: weights that cannot be read or do not fit; a backbone without patches.
        UsageError: unknown backbone.
    """
    patch_size = backbones.native_patch(backbone)
    if not patch_size:
        raise InputError(
            f"{backbone} has no patches, so it cannot teach a tokenizer of patches. Use a vision transformer."
        )
    built = backbones.build(backbone, image_size=grid * patch_size, **(options or {}))
    names = weights.read(path)
    teacher = Teacher(built, grid=grid, dual_encoder=f"{HEAD}.weight" in names)
    weights.load(teacher, path, new_heads=True)  # what belongs to texts or to another head is left out
    return teacher
