"""Images with boxes and masks, in the form of MMDetection's heads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from mmengine.dataset import pseudo_collate
from torch.utils.data import Dataset

from backbones.errors import InputError
from backbones.operators import provide
from tasks.adapter import Sample
from tasks.common.images import open_image
from tasks.detection.annotations import usable
from tasks.detection.bitmaps import window_bitmap

if TYPE_CHECKING:
    from mmdet.structures.mask import BitmapMasks

    from tasks.detection.recipes import DetectionRecipe

# As in detectron2, which ViTDet is made with: Pillow's resizing, whose filter grows with the reduction.
RESIZING = {"keep_ratio": False, "backend": "pillow", "interpolation": "bilinear"}
MIN_BOX_SIDE = 1e-2  # pixels; what a crop or a reduction leaves of a box must be wider and higher


class DetectionTrainSet(Dataset):
    """Items {"inputs": uint8 [3, height, width], "data_samples": DetDataSample}, channels in the order RGB.

    Large-scale jitter as in ViTDet: the image is resized so that its longer edge is `image_size` times a factor drawn
    from `scale_jitter`, a window of at most `image_size` × `image_size` is cut out, and half of the windows are
    mirrored. `gt_instances` has bboxes float [n, 4] (x1, y1, x2, y2 in pixels of the window), labels int64 [n]
    (indices of classes) and, in a recipe with masks, masks (BitmapMasks of the window's size). A box
    that the window cuts is that of what is left of its mask. n may be 0.

    Args:
        samples: with an annotation and, in a recipe with masks, with segmentations.
        root: image paths are relative to it.
        categories: ids in the order of the classes.
    """

    collate = staticmethod(pseudo_collate)

    def __init__(
        self, samples: Sequence[Sample], *, root: Path, recipe: DetectionRecipe, categories: Iterable[int]
    ) -> None:
        provide()
        from mmdet.datasets.transforms import FilterAnnotations, RandomCrop, RandomFlip

        self._samples = samples
        self._root = root
        self._recipe = recipe
        self._classes = {category: index for index, category in enumerate(categories)}
        self._crop = RandomCrop((recipe.image_size, recipe.image_size), allow_negative_crop=True)
        self._steps = [
            *([_tighten] if recipe.masks else []),
            # keep_empty=True would answer None to an image without boxes.
            FilterAnnotations((MIN_BOX_SIDE, MIN_BOX_SIDE), by_mask=recipe.masks, keep_empty=False),
            RandomFlip(prob=0.5),
        ]

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """
        Raises:
            InputError: the image is absent, cannot be read, or is of another size than the annotations say.
        """
        sample = self._samples[index]
        objects = [each for each in sample.annotation["objects"] if usable(each, **_size(sample))]
        jitter = np.random.uniform(*self._recipe.scale_jitter)
        content = _opened(sample, self._root) | _boxes(objects)
        content = _resize(content, longer_edge=self._recipe.image_size * jitter)
        content = self._named(objects, content["img_shape"], self._crop(content))
        for step in self._steps:
            content = step(content)
        return _packed(content)

    def _named(
        self, objects: Sequence[Mapping[str, Any]], size: tuple[int, int], content: dict[str, Any]
    ) -> dict[str, Any]:
        """Labels, and in a recipe with masks also masks, of the objects that a cropped picture of `size` still has."""
        kept = [objects[index] for index in content["gt_bboxes_labels"]]
        content["gt_bboxes_labels"] = np.array([self._classes[each["category_id"]] for each in kept], dtype=np.int64)
        if self._recipe.masks:
            content["gt_masks"] = _masks(kept, size, content)
        return content


class DetectionEvalSet(Dataset):
    """Items {"inputs": uint8 [3, height, width], "data_samples": DetDataSample}, channels in the order RGB.

    The image is resized so that its longer edge is `test_size`. A recipe with `test_scales` or `test_flip` has several
    views of each image: "inputs" and "data_samples" are lists of them, the mirrored one of each size behind the plain
    one, and a batch is a list of views in which each has the batch's images (as mmengine's test-time augmentation).
    A sample's metainfo has img_id, ori_shape and img_shape (height, width), scale_factor (width, height) and flip.
    """

    collate = staticmethod(pseudo_collate)

    def __init__(self, samples: Sequence[Sample], *, root: Path, recipe: DetectionRecipe) -> None:
        provide()
        self._samples = samples
        self._root = root
        edges = recipe.test_scales or (recipe.test_size or recipe.image_size,)
        self._views = list(product(edges, (False, True) if recipe.test_flip else (False,)))

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """
        Raises:
            InputError: as for training.
        """
        content = _opened(self._samples[index], self._root)
        views = [_packed(_view(dict(content), edge, mirrored)) for edge, mirrored in self._views]
        if len(views) == 1:
            return views[0]
        return {name: [view[name] for view in views] for name in views[0]}


def _opened(sample: Sample, root: Path) -> dict[str, Any]:
    """An image as MMDetection's transforms take it, but in the order RGB."""
    path = root / sample.inputs["image"]
    pixels = np.asarray(open_image(path, upright=True))
    size = (sample.inputs["height"], sample.inputs["width"])
    if pixels.shape[:2] != size:
        raise InputError(
            f"Image {path} has {pixels.shape[0]} × {pixels.shape[1]} pixels (height × width), and the annotations say "
            f"{size[0]} × {size[1]}. Replace it with the original file."
        )
    return {"img": pixels, "img_id": sample.id, "ori_shape": size, "img_shape": size}


def _size(sample: Sample) -> dict[str, int]:
    return {name: sample.inputs[name] for name in ("width", "height")}


def _boxes(objects: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Boxes in the pixels of the image as it is, labelled with the objects' indices, by which those left are known."""
    from mmdet.structures.bbox import HorizontalBoxes

    corners = np.array([each["bbox"] for each in objects], dtype=np.float32).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    return {
        "gt_bboxes": HorizontalBoxes(corners),
        "gt_bboxes_labels": np.arange(len(objects)),
    }


def _masks(objects: Sequence[Mapping[str, Any]], size: tuple[int, int], content: Mapping[str, Any]) -> BitmapMasks:
    """Masks in the window that was cut out of the resized image of `size`, drawn in its pixels.

    Resized bitmaps would have steps, and be half a pixel off.
    """
    from mmdet.structures.mask import BitmapMasks

    left, top = (round(-shift) for shift in content["homography_matrix"][:2, 2].tolist())
    window = (top, left, *content["img_shape"])
    factors = content["scale_factor"]
    drawn = [window_bitmap(each["segmentation"], size, factors, window) for each in objects]
    return BitmapMasks(drawn, *content["img_shape"])


def _resize(content: dict[str, Any], *, longer_edge: float) -> dict[str, Any]:
    from mmdet.datasets.transforms import Resize

    height, width = content["img_shape"]
    factor = longer_edge / max(height, width)
    # MMDetection's own keeping of the ratio leaves nothing of an image that is much longer than high.
    size = tuple(max(1, int(edge * factor + 0.5)) for edge in (width, height))
    return Resize(scale=size, **RESIZING)(content)


def _view(content: dict[str, Any], longer_edge: int, mirrored: bool) -> dict[str, Any]:
    content = _resize(content, longer_edge=longer_edge)
    if mirrored:
        content["img"] = content["img"][:, ::-1]
    return content | {"flip": mirrored, "flip_direction": "horizontal" if mirrored else None}


def _tighten(content: dict[str, Any]) -> dict[str, Any]:
    """Boxes that end at the image's border become those of their masks, as an object's box is after a cut."""
    boxes, (height, width) = content["gt_bboxes"].tensor, content["img_shape"]
    cut = (boxes[:, :2] <= 0).any(1) | (boxes[:, 2] >= width) | (boxes[:, 3] >= height)
    boxes[cut] = content["gt_masks"][cut.numpy()].get_bboxes("hbox").tensor
    return content


def _packed(content: dict[str, Any]) -> dict[str, Any]:
    from mmdet.datasets.transforms import PackDetInputs

    pack = PackDetInputs(meta_keys=("img_id", "ori_shape", "img_shape", "scale_factor", "flip", "flip_direction"))
    # A mirrored image of one column would reach PyTorch with a negative stride.
    item = pack(content | {"img": content["img"].copy()})
    sample = item["data_samples"]
    if "bboxes" in sample.gt_instances:
        sample.gt_instances.bboxes = sample.gt_instances.bboxes.tensor
    del sample.ignored_instances  # empty, and without the boxes that heads would look for in it
    return item
