"""An image and its map of classes, as MMSegmentation's transforms prepare them.

Images are opened and checked here, so the transforms never touch a file. They stay RGB: MMSegmentation reads BGR and
reverses it in the model, and no transform in between depends on the order of channels (a hue is shifted as often one
way as the other). Numbers stay 0 to 255, uint8: the model normalises.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
from mmengine.dataset import pseudo_collate
from torch.utils.data import Dataset

from backbones import operators
from backbones.errors import InputError
from tasks.adapter import Sample
from tasks.common.images import open_image
from tasks.segmentation.annotations import label_map

META = ("sample_id", "ori_shape", "img_shape", "scale_factor", "flip", "flip_direction")
Scale = tuple[int, int]  # the longer and the shorter side at most, in pixels


class SegmentationDataset(Dataset):
    """Items {"inputs": uint8 [3, height, width], "data_samples": SegDataSample}; a batch has lists of both.

    The metainfo has `sample_id` and `ori_shape` (height, width of the file), and what the transforms did.

    Args:
        scale: images are resized to the largest size within it that keeps their shape.
        smallest_ratio: the smallest factor that a transform multiplies `scale` with.
        transforms: of MMSegmentation.
    """

    collate = staticmethod(pseudo_collate)

    def __init__(
        self, samples: Sequence[Sample], *, scale: Scale, smallest_ratio: float, transforms: Sequence[Callable]
    ) -> None:
        operators.provide()
        from mmseg.datasets.transforms import PackSegInputs

        self._samples = samples
        self._smallest = (int(scale[0] * smallest_ratio), int(scale[1] * smallest_ratio))
        self._transforms = (*transforms, PackSegInputs(meta_keys=META))

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = self._opened(self._samples[index])
        for transform in self._transforms:
            item = transform(item)
        return item

    def _opened(self, sample: Sample) -> dict[str, Any]:
        """Load an image as MMSegmentation's loading transforms do.

        Raises:
            InputError: the image is absent, cannot be read, or is too thin to be resized.
        """
        path = sample.inputs["image"]
        image = np.array(open_image(Path(path), upright=True))
        height, width = image.shape[:2]
        if 0 in mmcv.rescale_size((width, height), self._smallest):
            raise InputError(
                f"Image {path} is {width:,} × {height:,} pixels: made to fit {self._smallest[0]} × "
                f"{self._smallest[1]}, nothing is left of its shorter side. Cut it into pieces, or take it out."
            )
        shape = (height, width)
        return {"img": image, "img_shape": shape, "ori_shape": shape, "sample_id": sample.id, "seg_fields": []}


class SegmentationTrainSet(SegmentationDataset):
    """Items with `gt_sem_seg` in the data samples: int64 [1, height, width], classes from 0, 255 for no class."""

    def _opened(self, sample: Sample) -> dict[str, Any]:
        item = super()._opened(sample)
        height, width = item["ori_shape"]
        item["gt_seg_map"] = label_map(sample, size=(width, height)) - np.uint8(1)  # 0 becomes 255
        item["seg_fields"] = ["gt_seg_map"]
        return item


def training_set(
    samples: Sequence[Sample], *, crop: int, scale: Scale, ratio_range: tuple[float, float], cat_max_ratio: float
) -> SegmentationTrainSet:
    """Training set with ADE20K's usual augmentation: random size, crop of at most `crop` × `crop`, flip, other colours.

    Args:
        ratio_range: what `scale` is multiplied with.
        cat_max_ratio: largest share of a crop that one class should take; after ten crops any is taken.
    """
    operators.provide()
    from mmseg.datasets.transforms.transforms import PhotoMetricDistortion, RandomCrop, RandomFlip, Resize

    transforms = (
        mmcv.RandomResize(scale=scale, ratio_range=ratio_range, resize_type=Resize, keep_ratio=True),
        RandomCrop(crop_size=(crop, crop), cat_max_ratio=cat_max_ratio),
        RandomFlip(prob=0.5),
        PhotoMetricDistortion(),
    )
    return SegmentationTrainSet(samples, scale=scale, smallest_ratio=ratio_range[0], transforms=transforms)


class SegmentationEvalSet(SegmentationDataset):
    """Whole images in each test size, without labels: "inputs" is a list of views uint8 [3, height, width].

    Each is made from the file's pixels. A batch has, for each view, the list of its images. The data sample is that of
    the last view.

    Args:
        ratios: what `scale` is multiplied with for each view.
        multiple: sides are resized to the next multiple.
    """

    def __init__(self, samples: Sequence[Sample], *, scale: Scale, ratios: Sequence[float], multiple: int) -> None:
        super().__init__(samples, scale=scale, smallest_ratio=min(ratios), transforms=())
        from mmseg.datasets.transforms.transforms import Resize, ResizeToMultiple

        self._views = [
            (
                Resize(scale=tuple(round(side * ratio) for side in scale), keep_ratio=True),
                *([ResizeToMultiple(size_divisor=multiple)] if multiple > 1 else []),
                *self._transforms,
            )
            for ratio in ratios
        ]

    def __getitem__(self, index: int) -> dict[str, Any]:
        opened = self._opened(self._samples[index])
        views = []
        for transforms in self._views:
            item = dict(opened)
            for transform in transforms:
                item = transform(item)
            views.append(item)
        return {"inputs": [view["inputs"] for view in views], "data_samples": views[-1]["data_samples"]}
