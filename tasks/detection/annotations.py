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
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from backbones.errors import InputError
from tasks.adapter import Sample
from tasks.common.reading import RESTORE, field
from tasks.common.streaming import json_lists
from tasks.detection.instance_columns import SEGMENTATION, AnnotatedImages, ImageRows, ObjectRows, learnable

IMAGE = {"id", "file_name", "width", "height"}
ANNOTATION = {"id", "image_id", "category_id", "bbox", "area", "iscrowd"}
_WHAT = "annotations in COCO's form"


class Instances(NamedTuple):
    """An instances file: its images and its categories' names by id, both in the file's order."""

    images: AnnotatedImages
    categories: dict[int, str]


def read_instances(path: Path, *, labelled: bool = True) -> Instances:
    """An instances file, or with `labelled=False` a list of images alone, which have no objects then.

    Boxes without an area or outside their image are no error: COCO has some, and its tool scores them.

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
    _require_known(objects, categories, path)
    return Instances(objects.together_with(images), categories)


def read_categories(path: Path) -> dict[int, str]:
    """The categories' names by id, in the file's order.

    Raises:
        InputError: absent, not JSON, or a category that is missing a field or stands twice.
    """
    found = next((_categories(rows, path) for name, rows in _lists(path) if name == "categories"), None)
    _require_read(path, categories=found)
    return found


def usable(item: Mapping[str, Any], *, width: int, height: int) -> bool:
    """Whether an object can be learnt: it is no crowd, and its box has an area inside the image."""
    return bool(learnable(item["bbox"], item["iscrowd"], width, height))


def bitmap(segmentation: Any, height: int, width: int, factors: tuple[float, float] = (1.0, 1.0)) -> np.ndarray:
    """uint8 [height, width] of polygons, or of a run-length code, that are scaled by factors of width and height."""
    from pycocotools import mask

    if isinstance(segmentation, Mapping):
        packed = isinstance(segmentation["counts"], str)
        pixels = mask.decode(segmentation if packed else mask.frPyObjects(segmentation, *segmentation["size"]))
        return pixels[np.ix_(_nearest(len(pixels), height), _nearest(pixels.shape[1], width))]
    polygons = [(np.reshape(polygon, (-1, 2)) * factors).ravel().tolist() for polygon in segmentation]
    return mask.decode(mask.merge(mask.frPyObjects(polygons, height, width)))


def window_bitmap(
    segmentation: Any, size: tuple[int, int], factors: tuple[float, float], window: tuple[int, int, int, int]
) -> np.ndarray:
    """Draw a window of `bitmap` without drawing the rest of a large picture.

    Polygons are drawn within their own bounds, which takes the time and memory of the object and not of the picture.

    Args:
        size: height and width of the picture in pixels.
        factors: of width and height, from the file's pixels to the picture's.
        window: top, left, height and width in pixels of the picture.

    Returns:
        uint8 [height, width] of the window.
    """
    top, left, height, width = window
    drawn, (y, x) = _drawn_within_bounds(segmentation, size, factors)
    pixels = np.zeros((height, width), np.uint8)
    rows, columns = drawn.shape
    first_row, last_row = max(top, y), min(top + height, y + rows)
    first_column, last_column = max(left, x), min(left + width, x + columns)
    if first_row < last_row and first_column < last_column:
        inside = drawn[first_row - y : last_row - y, first_column - x : last_column - x]
        pixels[first_row - top : last_row - top, first_column - left : last_column - left] = inside
    return pixels


def _drawn_within_bounds(
    segmentation: Any, size: tuple[int, int], factors: tuple[float, float]
) -> tuple[np.ndarray, tuple[int, int]]:
    """A bitmap that holds all of an object, and the row and the column of its corner in the picture."""
    if isinstance(segmentation, Mapping):
        return bitmap(segmentation, *size, factors), (0, 0)
    points = [np.reshape(polygon, (-1, 2)) * factors for polygon in segmentation]
    every = np.concatenate(points)
    # Whole pixels, and never less than 0: the rasteriser rounds negative numbers in another direction.
    x, y = np.floor(every.min(axis=0)).clip(0).astype(int).tolist()
    ends = np.minimum(np.ceil(every.max(axis=0)).astype(int) + 2, (size[1], size[0]))
    columns, rows = (ends - (x, y)).tolist()
    if rows <= 0 or columns <= 0:
        return np.zeros((0, 0), np.uint8), (y, x)
    return bitmap([(each - (x, y)).ravel() for each in points], rows, columns), (y, x)


def _nearest(length: int, wanted: int) -> np.ndarray:
    """Index of the pixel under the middle of each pixel after resizing: int64 [wanted], each below `length`."""
    return (2 * np.arange(wanted) + 1) * length // (2 * wanted)


def annotation_warnings(samples: Iterable[Sample]) -> list[str]:
    """What is odd but no error, each kind with its number and an example.

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


def _lists(path: Path) -> Iterator[tuple[str, Iterator[Any]]]:
    """The file's three lists, as far as they are there."""
    for name, rows in json_lists(path, what=_WHAT):
        if name in ("images", "annotations", "categories"):
            if rows is None:
                raise InputError(f"{path}: the field '{name}' is no list. {RESTORE}")
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
    _require_unique([row["id"] for row in categories], what="category", path=path)
    return {row["id"]: str(row["name"]) for row in categories}


def _images(rows: Iterable[Any], path: Path) -> ImageRows:
    images = ImageRows()
    for row in rows:
        _require_fields(row, IMAGE, where=f"{path}: an image")
        _require_id(row["id"], where=f"{path}: an image")
        if not (_is_number(row["width"]) and _is_number(row["height"]) and row["width"] > 0 and row["height"] > 0):
            raise InputError(
                f"{path}: image {row['id']} has width {row['width']!r} and height {row['height']!r}. Mend or remove it."
            )
        images.append(row)
    _require_unique(images.ids, what="image", path=path)
    return images


def _objects(rows: Iterable[Any], images: ImageRows, path: Path) -> ObjectRows:
    objects, required = ObjectRows(), ANNOTATION
    for number, row in enumerate(rows):
        if number == 0 and isinstance(row, dict) and SEGMENTATION in row:
            required = ANNOTATION | {SEGMENTATION}
        _require_fields(row, required, where=f"{path}: an annotation")
        if SEGMENTATION in row and SEGMENTATION not in required:
            raise InputError(
                f"{path}: an annotation has no field '{SEGMENTATION}', and annotation {row['id']} has one. Mend the "
                "file: all annotations have masks, or none has."
            )
        _require_id(row["id"], where=f"{path}: an annotation")
        image = images.places.get(row["image_id"])
        problem = "is of an image that the file does not list" if image is None else _problem(row, images, image)
        if problem:
            raise _wrong(path, row["id"], problem)
        objects.append(row, image)
    _require_unique(objects.numbers, what="annotation", path=path)
    return objects


def _require_known(objects: ObjectRows, categories: Mapping[int, str], path: Path) -> None:
    """Refuse an object whose category the file does not list."""
    foreign = np.flatnonzero(~np.isin(objects.categories, list(categories)))
    if len(foreign):
        number, category = objects.numbers[foreign[0]], objects.categories[foreign[0]]
        problem = f"has the category {category}, which is not among the file's {len(categories)} categories"
        raise _wrong(path, number, problem)


def _wrong(path: Path, annotation: int, problem: str) -> InputError:
    return InputError(f"{path}: annotation {annotation} {problem}. Mend or remove it.")


def _problem(row: dict[str, Any], images: ImageRows, image: int) -> str | None:
    """Fault of an annotation of the image at that place, None when there is none."""
    if not isinstance(row["category_id"], int):
        return f"has the category {row['category_id']!r}, no whole number"
    if row["iscrowd"] not in (0, 1):
        return f"has iscrowd {row['iscrowd']!r}, neither 0 nor 1"
    if not _are_numbers(row["bbox"]) or len(row["bbox"]) != 4:
        return f"has the box {row['bbox']!r}, not four numbers x, y, width, height"
    if not _is_number(row["area"]):
        return f"has the area {row['area']!r}, no number"
    if SEGMENTATION in row:
        return _mask_problem(row[SEGMENTATION], images.sizes[2 * image], images.sizes[2 * image + 1])
    return None


def _mask_problem(segmentation: Any, width: int, height: int) -> str | None:
    if isinstance(segmentation, dict):
        return _code_problem(segmentation, width, height)
    if not isinstance(segmentation, list):
        return f"has the segmentation {segmentation!r}, neither polygons nor a run-length code"
    for polygon in segmentation:
        if not _are_numbers(polygon) or len(polygon) < 6 or len(polygon) % 2:
            return f"has a polygon that is not x, y of three or more points: {str(polygon)[:60]}"
    return None


def _code_problem(code: dict[str, Any], width: int, height: int) -> str | None:
    size, counts = code.get("size"), code.get("counts")
    if size != [height, width]:
        return f"has a run-length code of size {size}, and its image is {[height, width]} (height, width)"
    if isinstance(counts, str):
        return None
    if not isinstance(counts, list) or not _are_numbers(counts):
        return "has a run-length code without counts"
    if sum(counts) != width * height:
        return f"has a run-length code of {sum(counts)} pixels, and its image has {width * height}"
    return None


def _are_numbers(values: Any) -> bool:
    """Whether it is a list of finite numbers; one sum tells of all of them."""
    try:
        return isinstance(values, list) and math.isfinite(sum(values))
    except TypeError:
        return False


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _require_fields(row: Any, names: set[str], *, where: str) -> None:
    if isinstance(row, dict) and names <= row.keys():
        return
    for name in sorted(names):
        field(row, name, where=where)


def _require_id(value: Any, *, where: str) -> None:
    if not isinstance(value, int) or abs(value) >= 1 << 63:
        raise InputError(f"{where} has the id {value!r}, no whole number. Number them anew.")


def _require_unique(ids: Sequence[int] | np.ndarray, *, what: str, path: Path) -> None:
    names, counts = np.unique(np.asarray(ids), return_counts=True)
    doubled = [str(name) for name in names[counts > 1]]
    if doubled:
        more = f" and {len(doubled) - 5:,} more" if len(doubled) > 5 else ""
        raise InputError(f"{path} has {what} ids twice: {', '.join(doubled[:5])}{more}. {RESTORE}")
