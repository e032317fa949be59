"""Instance annotations in COCO's form: which objects an image has, with box, mask and category.

instances_train2017.json   images [{id, file_name, width, height}], categories [{id, name}] and
                           annotations [{id, image_id, category_id, bbox, area, iscrowd, segmentation}]
image_info_test-dev2017.json                                          the same without annotations

A box is [x, y, width, height] in pixels from the image's top left corner. A segmentation is a list of polygons,
[x, y, x, y, …] each, or a run-length code {"size": [height, width], "counts": …}, or an empty list of an object
without a mask. Sets of boxes alone, such as Objects365, have no field segmentation in any annotation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from backbones.errors import InputError
from tasks.common.reading import RESTORE, are_finite, field, require_unique
from tasks.common.streaming import json_lists
from tasks.detection.instance_columns import SEGMENTATION, AnnotatedImages, ImageRows, ObjectRows
from tasks.detection.run_lengths import pixels

IMAGE = {"id", "file_name", "width", "height"}
ANNOTATION = {"id", "image_id", "category_id", "bbox", "area", "iscrowd"}
_WHAT = "annotations in COCO's form"


class Instances(NamedTuple):
    """An instances file: its images and its categories' names by id, both in the file's order."""

    images: AnnotatedImages
    categories: dict[int, str]


def read_instances(path: Path, *, labelled: bool = True) -> Instances:
    """An instances file, or with `labelled=False` a list of images alone, which have no objects then.

    Boxes without an area or outside their image are no error: COCO has some, and its tool scores them. Those of
    negative width or height are refused.

    Raises:
        InputError: absent, not JSON, a field missing or not of its form, an id twice, an annotation of an unknown
            image or category, a polygon of less than three points, a run-length code of another size than its image.
    """
    images = categories = objects = None
    for name, rows in _lists(path):
        if name == "categories":
            categories = _categories(rows, path)
        elif name == "images":
            images = _images(rows, path)
        elif name == "annotations" and labelled and images is not None:
            objects = _objects(rows, images, path)
    _require_read(path, categories=categories, images=images)
    if labelled and objects is None:  # the file lists its annotations before its images, or has none
        objects = next((_objects(rows, images, path) for name, rows in _lists(path) if name == "annotations"), None)
        _require_read(path, annotations=objects)
    objects = objects or ObjectRows()
    _require_known_categories(objects, categories, path)
    return Instances(objects.together_with(images), categories)


def _lists(path: Path) -> Iterator[tuple[str, Iterator[Any]]]:
    """The file's three lists, as far as they are there."""
    for name, rows in json_lists(path, what=_WHAT):
        if name in ("images", "annotations", "categories"):
            if rows is None:
                raise InputError(f"{path}: the field '{name}' is not a list. {RESTORE}")
            yield name, rows


def _require_read(path: Path, **found: Any) -> None:
    for name, value in found.items():
        if value is None:
            raise InputError(f"{path} has no field '{name}', a list. {RESTORE}")


def _categories(rows: Iterable[Any], path: Path) -> dict[int, str]:
    categories = list(rows)
    if not categories:
        raise InputError(f"{path} has no category. {RESTORE}")
    for row in categories:
        _require_fields(row, {"id", "name"}, where=f"{path}: a category")
        _require_id(row["id"], where=f"{path}: a category")
    require_unique([row["id"] for row in categories], what="category id", where=path)
    return {row["id"]: str(row["name"]) for row in categories}


def _images(rows: Iterable[Any], path: Path) -> ImageRows:
    images = ImageRows()
    for row in rows:
        _require_fields(row, IMAGE, where=f"{path}: an image")
        _require_id(row["id"], where=f"{path}: an image")
        if not (_is_number(row["width"]) and _is_number(row["height"]) and row["width"] > 0 and row["height"] > 0):
            raise InputError(
                f"{path}: image {row['id']} has width {row['width']!r} and height {row['height']!r}. Fix or remove it."
            )
        images.append(row)
    require_unique(images.ids.tolist(), what="image id", where=path)
    return images


def _objects(rows: Iterable[Any], images: ImageRows, path: Path) -> ObjectRows:
    objects, required = ObjectRows(), ANNOTATION
    for number, row in enumerate(rows):
        if number == 0 and isinstance(row, dict) and SEGMENTATION in row:
            required = ANNOTATION | {SEGMENTATION}
        _require_fields(row, required, where=f"{path}: an annotation")
        if SEGMENTATION in row and SEGMENTATION not in required:
            raise InputError(
                f"{path}: an annotation has no field '{SEGMENTATION}', and annotation {row['id']} has one. Fix the "
                "file: all annotations have masks, or none has."
            )
        _require_id(row["id"], where=f"{path}: an annotation")
        image = images.indices.get(row["image_id"])
        problem = "is of an image that the file does not list" if image is None else _problem(row, images, image)
        if problem:
            raise _wrong(path, row["id"], problem)
        objects.append(row, image)
    require_unique(objects.numbers.tolist(), what="annotation id", where=path)
    return objects


def _require_known_categories(objects: ObjectRows, categories: Mapping[int, str], path: Path) -> None:
    """Refuse an object whose category the file does not list."""
    unknown = np.flatnonzero(~np.isin(objects.categories, list(categories)))
    if len(unknown):
        number, category = objects.numbers[unknown[0]], objects.categories[unknown[0]]
        problem = f"has the category {category}, which is not among the file's {len(categories)} categories"
        raise _wrong(path, number, problem)


def _wrong(path: Path, annotation: int, problem: str) -> InputError:
    return InputError(f"{path}: annotation {annotation} {problem}. Fix or remove it.")


def _problem(row: dict[str, Any], images: ImageRows, image: int) -> str | None:
    """Fault of an annotation of the image with that index, None when there is none."""
    if not _is_whole(row["category_id"]):
        return f"has the category {row['category_id']!r}, not a whole number"
    if not _is_whole(row["iscrowd"]) or row["iscrowd"] not in (0, 1):
        return f"has iscrowd {row['iscrowd']!r}, neither 0 nor 1"
    if not are_finite(row["bbox"]) or len(row["bbox"]) != 4:
        return f"has the box {row['bbox']!r}, not four numbers x, y, width, height"
    if min(row["bbox"][2:]) < 0 or any(isinstance(side, bool) for side in row["bbox"]):
        return f"has the box {row['bbox']!r}, whose width or height is no length"
    if not _is_number(row["area"]) or row["area"] < 0:
        return f"has the area {row['area']!r}, not a number from 0"
    if SEGMENTATION in row:
        return _mask_problem(row[SEGMENTATION], images.sizes[2 * image], images.sizes[2 * image + 1])
    return None


def _mask_problem(segmentation: Any, width: int, height: int) -> str | None:
    if isinstance(segmentation, dict):
        return _code_problem(segmentation, width, height)
    if not isinstance(segmentation, list):
        return f"has the segmentation {segmentation!r}, neither polygons nor a run-length code"
    for polygon in segmentation:
        if not are_finite(polygon) or len(polygon) < 6 or len(polygon) % 2:
            return f"has a polygon that is not x, y of three or more points: {str(polygon)[:60]}"
    return None


def _code_problem(code: dict[str, Any], width: int, height: int) -> str | None:
    size, counts = code.get("size"), code.get("counts")
    if size != [height, width]:
        return f"has a run-length code of size {size}, and its image is {[height, width]} (height, width)"
    if isinstance(counts, str):
        total = int(pixels([counts])[0])
    elif isinstance(counts, list) and all(type(count) is int and count >= 0 for count in counts):
        total = sum(counts)
    else:
        return "has a run-length code without counts"
    if total < 0:
        return "has a run-length code whose counts are broken"
    if total != width * height:
        return f"has a run-length code of {total} pixels, and its image has {width * height}"
    return None


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63


def _require_fields(row: Any, names: set[str], *, where: str) -> None:
    if isinstance(row, dict) and names <= row.keys():
        return
    for name in sorted(names):
        field(row, name, where=where)


def _require_id(value: Any, *, where: str) -> None:
    if not _is_whole(value):
        raise InputError(f"{where} has the id {value!r}, not a whole number. Renumber them.")
