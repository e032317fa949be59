"""Semantic segmentation: a backbone's maps at four strides, and a head of MMSegmentation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from torch import Tensor, nn

from backbones import openmmlab  # provides what mmcv-lite lacks; before MMSegmentation is imported
from backbones.config import COARSEST_STRIDE
from backbones.pyramid import MapPyramid
from backbones.vit_adapter import ViTAdapter, quarters
from tasks.common.images import pixel_statistics
from tasks.segmentation import heads, mask2former, vit_adapter_names
from tasks.segmentation.label_maps import encoded
from tasks.segmentation.upsample import best_classes

if TYPE_CHECKING:
    from mmseg.structures import SegDataSample

    from tasks.segmentation.recipes import SegmentationRecipe

NO_CLASS = 255
WINDOWS_AT_ONCE = 4


class Segmenter(BaseModel):
    """Backbone, `pyramid` (for UPerNet) or `adapter` (for Mask2Former), and `head`.

    Predictions are computed in float32 from the backbone's or the adapter's maps on, whatever the precision before.
    """

    def __init__(self, backbone: nn.Module, *, classes: int, recipe: SegmentationRecipe) -> None:
        super().__init__(_preprocessor(recipe.image_size, **pixel_statistics(backbone, recipe)))
        self.beit3 = backbone
        self.classes = classes
        self.recipe = recipe
        options = {"classes": classes, "recipe": recipe}
        if recipe.head == "upernet":
            self._layers = recipe.layers or [layers[-1] for layers in quarters(backbone.map_layers)]
            self.pyramid = MapPyramid(backbone.dim)
            self.head = openmmlab.build(heads.upernet(backbone.dim, **options), package="mmseg")
            self.auxiliary = openmmlab.build(heads.auxiliary(backbone.dim, **options), package="mmseg")
        else:
            self.adapter = ViTAdapter(backbone, drop_path=recipe.drop_path, norm=recipe.adapter_norm)
            self.pyramid = nn.Identity()
            self.head = mask2former.build(backbone.dim, **options)
            self.auxiliary = None
        backbone.freeze_unused_by_images()

    def forward(
        self, inputs: Tensor | list[list[Tensor]], data_samples: list[SegDataSample], mode: str = "predict"
    ) -> dict[str, Tensor] | list[dict[str, Any]]:
        """Losses, or a record for each image with the PNG file of its map as "png".

        Args:
            inputs: normalised RGB; float [batch, 3, side, side] for a loss; to predict, lists of the images of each
                view (test size), of any size.
        """
        if mode == "loss":
            return self._loss(inputs, data_samples)
        return [
            {"png": np.frombuffer(encoded(self._classes_of(views, sample.ori_shape) + np.uint8(1)), np.uint8)}
            for *views, sample in zip(*inputs, data_samples, strict=True)
        ]

    def translated(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of a weights file under the names of this model: those of ViT-Adapter's own are renamed."""
        return vit_adapter_names.own_state(state) if vit_adapter_names.is_official(state) else state

    def _maps(self, images: Tensor) -> tuple[Tensor, ...]:
        """The four maps that `pyramid` takes: [batch, dim, height / stride, width / stride] each.

        For UPerNet all have the stride of the patches, for Mask2Former the strides are 4, 8, 16 and 32.
        """
        if self.recipe.head == "mask2former":
            return self.adapter(self.beit3, images)
        return self.beit3.maps(images, self._layers)

    def _loss(self, images: Tensor, samples: list[SegDataSample]) -> dict[str, Tensor]:
        maps = self.pyramid(self._maps(images))
        losses = self.head.loss(maps, samples, None)
        if self.auxiliary is not None:
            helping = self.auxiliary.loss(maps, samples, None)
            losses |= {f"auxiliary.{name}": value for name, value in helping.items()}
        return losses

    def _classes_of(self, views: Sequence[Tensor], size: tuple[int, int]) -> np.ndarray:
        """The class of each pixel of the original image: uint8 [height, width]."""
        return best_classes(list(self._scores_of(views)), size).numpy()

    def _scores_of(self, views: Sequence[Tensor]) -> Iterator[Tensor]:
        """Class scores [classes, height, width] of each view, plain and mirrored."""
        for image in views:
            yield self._scores(image)
            if self.recipe.tta_flip:
                yield self._scores(image.flip(-1)).flip(-1)

    def _scores(self, image: Tensor) -> Tensor:
        """Class scores [classes, height, width] of a normalised image [3, height, width]."""
        height, width = image.shape[-2:]
        if self.recipe.inference == "whole":
            return self._decoded(_padded(image, multiple=self._multiple)[None])[0, :, :height, :width]
        crop, stride = self.recipe.image_size, self.recipe.stride
        image = _padded(image, least=crop)
        total = image.new_zeros(self.classes, *image.shape[-2:])  # sums of the windows' scores
        times = image.new_zeros(image.shape[-2:])  # windows over each pixel
        windows = [
            (slice(y, y + crop), slice(x, x + crop))
            for y in window_starts(image.shape[-2], crop, stride)
            for x in window_starts(image.shape[-1], crop, stride)
        ]
        for first in range(0, len(windows), WINDOWS_AT_ONCE):
            batch = windows[first : first + WINDOWS_AT_ONCE]
            # [windows, classes, crop, crop]
            scores = self._decoded(torch.stack([image[:, rows, columns] for rows, columns in batch]))
            for (rows, columns), window in zip(batch, scores, strict=True):
                total[:, rows, columns] += window
                times[rows, columns] += 1
        return (total / times)[:, :height, :width]

    def _decoded(self, images: Tensor) -> Tensor:
        """[batch, 3, height, width] -> class scores [batch, classes, height, width]; Mask2Former's are in 0..1."""
        metas = [{"img_shape": tuple(images.shape[-2:])} for _ in images]
        maps = self._maps(images)
        with torch.autocast(images.device.type, enabled=False):
            return self.head.predict(self.pyramid([features.float() for features in maps]), metas, None)

    @property
    def _multiple(self) -> int:
        """Divisor of the sides of an image, in pixels, so that every map covers all of it and nothing else."""
        return math.lcm(self.beit3.patch_size, COARSEST_STRIDE)


def window_starts(length: int, crop: int, stride: int) -> list[int]:
    """First pixels of the windows over a side; the last one ends with the side (MMSegmentation's slide inference)."""
    count = max(length - crop + stride - 1, 0) // stride + 1
    return [max(min(index * stride, length - crop), 0) for index in range(count)]


def _padded(image: Tensor, *, least: int = 0, multiple: int = 1) -> Tensor:
    """[3, height, width] with zeros (the mean colour) below and to the right."""
    height, width = (-(-max(side, least) // multiple) * multiple for side in image.shape[-2:])
    return F.pad(image, (0, width - image.shape[-1], 0, height - image.shape[-2]))


def _preprocessor(side: int, *, mean: Sequence[float], std: Sequence[float]) -> nn.Module:
    from mmseg.models.data_preprocessor import SegDataPreProcessor

    class Preprocessor(SegDataPreProcessor):
        """Normalises; pads training crops to one size, and leaves the images to predict as they are."""

        def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
            if training:
                return super().forward(data, training)
            data = self.cast_data(data)
            views = [[(image.float() - self.mean) / self.std for image in view] for view in data["inputs"]]
            return {"inputs": views, "data_samples": data["data_samples"]}

    return Preprocessor(mean=mean, std=std, size=(side, side), pad_val=0, seg_pad_val=NO_CLASS)
