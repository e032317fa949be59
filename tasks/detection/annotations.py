"""COCO's detection task on disk: the annotation file and the image folder of each split.

annotations/instances_train2017.json       see `tasks.detection.instances_file`; also val2017
annotations/image_info_test-dev2017.json   the same without annotations
train2017/000000000009.jpg …               also val2017, test2017
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from backbones.errors import InputError
from tasks.adapter import Sample, chosen
from tasks.common.packing import CompactSamples, Which
from tasks.common.reading import RESTORE, Remembered
from tasks.detection.instance_columns import SEGMENTATION, AnnotatedImages, learnable
from tasks.detection.instances_file import Instances, read_instances

FILES = {
    "train": "annotations/instances_train2017.json",
    "val": "annotations/instances_val2017.json",
    "test-dev": "annotations/image_info_test-dev2017.json",
}
IMAGE_FOLDERS = {"train": "train2017", "val": "val2017", "test-dev": "test2017"}
UNLABELLED = ("test-dev",)
# Splits whose file may say what the classes are: the first that is there. The smallest of those with labels comes
# first, since it is read whole, and the others must agree with it.
CLASS_SPLITS = ("val", "train", "test-dev")


@dataclass(frozen=True, eq=False)
class DetectionSamples(CompactSamples):
    """Images with their objects.

    inputs: {"image": path relative to the data folder, "width", "height"}; annotation: as `AnnotatedImage` has it, None
    where it is not public.
    """

    images: AnnotatedImages
    folder: str  # of the images, relative to the data folder
    labelled: bool

    def __len__(self) -> int:
        return len(self.images)

    def sample(self, index: int) -> Sample:
        image = self.images[index]
        inputs = {
            "image": f"{self.folder}/{image.file}",
            "width": image.annotation["width"],
            "height": image.annotation["height"],
        }
        return Sample(str(image.id), inputs, image.annotation if self.labelled else None)

    def chosen(self, which: Which) -> DetectionSamples:
        return replace(self, images=self.images.chosen(which))


def read_samples(root: Path, split: str) -> DetectionSamples:
    """The samples of a split in the file's order.

    Raises:
        InputError: see `read_instances`; no image, or other classes than the other files have.
    """
    path = root / FILES[split]
    if not path.is_file():
        raise InputError(
            f"No COCO annotations of {split} under {root}: {FILES[split]} is absent. Put it there, or draw a "
            "practice set with `harness toy FOLDER`."
        )
    instances = _read(root, split)
    if not instances.images:
        raise InputError(f"{path} lists no images. {RESTORE}")
    if split != _class_split(root):
        _require_same_classes(root, path, instances.categories)
    return DetectionSamples(instances.images, IMAGE_FOLDERS[split], split not in UNLABELLED)


def categories(root: Path) -> dict[int, str]:
    """Names by id, in the order of the model's outputs.

    Raises:
        InputError: there is no annotation file, or it is not of its form.
    """
    return _read(root, _class_split(root)).categories


_class_file = Remembered(read_instances)  # for its split's samples, and for the classes of every split


def _read(root: Path, split: str) -> Instances:
    read = _class_file if split == _class_split(root) else read_instances
    return read(root / FILES[split], labelled=split not in UNLABELLED)


def with_objects(samples: Sequence[Sample]) -> Sequence[Sample]:
    """The samples with an object to learn."""
    if isinstance(samples, DetectionSamples):
        return samples.chosen(np.flatnonzero(samples.images.taught))
    return chosen(samples, [index for index, sample in enumerate(samples) if _teaches(sample)])


def unmasked(samples: Sequence[Sample]) -> str:
    """Objects without a mask in words, such as "3 of 10 objects"; empty when all have one."""
    if isinstance(samples, DetectionSamples):
        masked = samples.images.masked
    else:
        objects = [item for sample in samples for item in sample.annotation["objects"]]
        masked = np.array([SEGMENTATION in item for item in objects])
    count = np.count_nonzero(~masked)
    return f"{count:,} of {len(masked):,} objects" if count else ""


def _teaches(sample: Sample) -> bool:
    width, height = sample.inputs["width"], sample.inputs["height"]
    return any(usable(item, width=width, height=height) for item in sample.annotation["objects"])


def _class_split(root: Path) -> str:
    for split in CLASS_SPLITS:
        if (root / FILES[split]).is_file():
            return split
    raise InputError(
        f"No COCO annotations under {root}: none of {', '.join(FILES.values())}. Point --data at the folder that has "
        "them, or at the folder above."
    )


def _require_same_classes(root: Path, path: Path, found: Mapping[int, str]) -> None:
    """One order of classes for training and prediction, whichever file they are read from."""
    if list(categories(root).items()) != list(found.items()):
        raise InputError(
            f"{path} has other categories than {root / FILES[_class_split(root)]}, or in another order. Both must list "
            "the same ids and names: the model's outputs are in their order."
        )


def usable(item: Mapping[str, Any], *, width: int, height: int) -> bool:
    """Check that an object can be learnt: it is not a crowd, and its box has an area inside the image."""
    return bool(learnable(item["bbox"], item["iscrowd"], width, height))


def annotation_warnings(samples: Iterable[Sample]) -> list[str]:
    """Describe what is odd but not an error, each kind with its count and an example.

    Args:
        samples: with an `AnnotatedImage`'s annotation each.
    """
    crowds = "crowd annotations (left out of training; scoring ignores what is detected there)"
    flat = "boxes without width or height (left out of training)"
    outside = "boxes wholly outside their image (left out of training)"
    partly = "boxes partly outside their image (clipped in training)"
    empty = "images without objects (left out of training)"
    counts, examples = Counter(), {}
    for sample in samples:
        width, height = sample.annotation["width"], sample.annotation["height"]
        if not sample.annotation["objects"]:
            counts[empty] += 1
            examples.setdefault(empty, f"image {sample.id}")
        for item in sample.annotation["objects"]:
            x, y, w, h = item["bbox"]
            kinds = [crowds] if item["iscrowd"] else []
            if w <= 0 or h <= 0:
                kinds.append(flat)
            elif x >= width or y >= height or x + w <= 0 or y + h <= 0:
                kinds.append(outside)
            elif x < 0 or y < 0 or x + w > width or y + h > height:
                kinds.append(partly)
            counts.update(kinds)
            for kind in kinds:
                examples.setdefault(kind, f"annotation {item['id']} of image {sample.id}")
    order = (crowds, flat, outside, partly, empty)
    return [f"{kind}: {counts[kind]:,}, such as {examples[kind]}" for kind in order if counts[kind]]
