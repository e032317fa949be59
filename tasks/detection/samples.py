"""The files of COCO's detection task, and the samples in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from backbones.errors import InputError
from tasks.adapter import Sample, chosen
from tasks.common.packing import CompactSamples, Which
from tasks.common.reading import RESTORE, Remembered
from tasks.detection.annotations import read_categories, read_instances, usable
from tasks.detection.instance_columns import SEGMENTATION, AnnotatedImages

FILES = {
    "train": "annotations/instances_train2017.json",
    "val": "annotations/instances_val2017.json",
    "test-dev": "annotations/image_info_test-dev2017.json",
}
IMAGE_FOLDERS = {"train": "train2017", "val": "val2017", "test-dev": "test2017"}
# Which file says what the classes are: the first that there is. The smallest of those with labels comes first, since
# it is read whole, and the others must agree with it.
CLASS_FILES = ("val", "train", "test-dev")


@dataclass(frozen=True, eq=False)
class DetectionSamples(CompactSamples):
    """Images with their objects.

    inputs: {"image": path, "width", "height", "categories": names by id}; annotation: as `AnnotatedImage` has it, None
    where it is not public.
    """

    images: AnnotatedImages
    folder: str  # of the images, relative to the data folder
    categories: Mapping[int, str]
    labelled: bool

    def __len__(self) -> int:
        return len(self.images)

    def sample(self, index: int) -> Sample:
        image = self.images[index]
        inputs = {
            "image": f"{self.folder}/{image.file}",
            "width": image.annotation["width"],
            "height": image.annotation["height"],
            "categories": self.categories,
        }
        return Sample(str(image.id), inputs, image.annotation if self.labelled else None)

    def chosen(self, which: Which) -> DetectionSamples:
        return replace(self, images=self.images.chosen(which))


def read_samples(root: Path, split: str, *, labelled: bool) -> DetectionSamples:
    """The samples of a split in the file's order.

    Raises:
        InputError: see `annotations.read_instances`; no image, or other classes than the other files have.
    """
    path = root / FILES[split]
    if not path.is_file():
        raise InputError(
            f"No COCO annotations of {split} under {root}: {FILES[split]} is absent. Put it there, or draw a "
            "practice set with `harness toy FOLDER`."
        )
    instances = read_instances(path, labelled=labelled)
    if not instances.images:
        raise InputError(f"{path} lists no images. {RESTORE}")
    _require_same_classes(root, path, instances.categories)
    return DetectionSamples(instances.images, IMAGE_FOLDERS[split], instances.categories, labelled)


def categories(root: Path) -> dict[int, str]:
    """Names by id, in the order of the model's outputs.

    Raises:
        InputError: there is no annotation file, or it has no categories.
    """
    return _categories(_class_file(root))


_categories = Remembered(read_categories)


def with_objects(samples: Sequence[Sample]) -> Sequence[Sample]:
    """The samples with an object to learn."""
    if isinstance(samples, DetectionSamples):
        return samples.chosen(np.flatnonzero(samples.images.taught))
    return chosen(samples, [place for place, sample in enumerate(samples) if _teaches(sample)])


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


def _class_file(root: Path) -> Path:
    for split in CLASS_FILES:
        if (root / FILES[split]).is_file():
            return root / FILES[split]
    raise InputError(
        f"No COCO annotations under {root}: none of {', '.join(FILES.values())}. Point --data at the folder that has "
        "them, or at the folder above."
    )


def _require_same_classes(root: Path, path: Path, found: Mapping[int, str]) -> None:
    """One order of classes for training and prediction, whichever file they are read from."""
    leading = _class_file(root)
    if path != leading and list(_categories(leading).items()) != list(found.items()):
        raise InputError(
            f"{path} has other categories than {leading}, or in another order. Both must list the same ids and names: "
            "the model's outputs are in their order."
        )
