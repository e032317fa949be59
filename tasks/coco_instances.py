"""Instance annotations in COCO's form: which objects an image has, with box, mask and category.

instances_train2017.json   images [{id, file_name, width, height}], categories [{id, name}] and
                           annotations [{id, image_id, category_id, bbox, area, iscrowd, segmentation}]
image_info_test-dev2017.json                                          the same without annotations

A box is [x, y, width, height] in pixels from the image's top left corner. A segmentation is a list of polygons,
[x, y, x, y, …] each, or a run-length code {"size": [height, width], "counts": …}. Sets of boxes alone, such as
Objects365, have no field segmentation in any annotation.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from backbones.errors import InputError
from tasks.adapter import Sample
from tasks.reading import collector_paused, field, read_json

if TYPE_CHECKING:
    import numpy as np

IMAGE = {"id", "file_name", "width", "height"}
ANNOTATION = {"id", "image_id", "category_id", "bbox", "area", "iscrowd"}
SEGMENTATION = "segmentation"
_WHAT = "annotations in COCO's form"


class AnnotatedImage(NamedTuple):
    """An image of a file, known without opening it.

    annotation: {"width", "height", "objects": [{"id", "category_id", "bbox", "area", "iscrowd", "segmentation"}]}
    as the file has them; "segmentation" is absent in sets of boxes alone.
    """

    id: int
    file: str
    annotation: dict[str, Any]


class Instances(NamedTuple):
    """An instances file: its images and its categories' names by id, both in the file's order."""

    images: list[AnnotatedImage]
    categories: dict[int, str]


def read(path: Path, *, labelled: bool = True) -> Instances:
    """An instances file, or with `labelled=False` a list of images alone, which have no objects then.

    Boxes without an area or outside their image are no error: COCO has some, and its tool scores them.

    Raises:
        InputError: absent, not JSON, a field missing or not of its form, an id twice, an annotation of an unknown
            image or category, a polygon of less than three points, a run-length code of another size than its image.
    """
    with collector_paused():
        content = read_json(path, what=_WHAT, shrink=_needed)
        categories = _categories(content, path)
        images = _images(content, path)
        if labelled:
            _add_objects(images, categories, _rows(content, "annotations", path), path)
    return Instances(list(images.values()), categories)


def read_categories(path: Path) -> dict[int, str]:
    """The categories' names by id, in the file's order.

    Raises:
        InputError: absent, not JSON, or a category that is missing a field or stands twice.
    """
    with collector_paused():
        return _categories(read_json(path, what=_WHAT, shrink=_without_images), path)


def usable(item: Mapping[str, Any], *, width: int, height: int) -> bool:
    """Whether an object can be learnt: it is no crowd, and its box has an area inside the image."""
    x, y, w, h = item["bbox"]
    return not item["iscrowd"] and min(x + w, width) > max(x, 0) and min(y + h, height) > max(y, 0)


def bitmap(segmentation: Any, height: int, width: int, factors: tuple[float, float] = (1.0, 1.0)) -> np.ndarray:
    """uint8 [height, width] of polygons, or of a run-length code, that are scaled by factors of width and height."""
    import cv2
    import numpy as np
    from pycocotools import mask

    if isinstance(segmentation, Mapping):
        packed = isinstance(segmentation["counts"], str)
        pixels = mask.decode(segmentation if packed else mask.frPyObjects(segmentation, *segmentation["size"]))
        return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    polygons = [(np.reshape(polygon, (-1, 2)) * factors).ravel().tolist() for polygon in segmentation]
    return mask.decode(mask.merge(mask.frPyObjects(polygons, height, width)))


def oddities(samples: Iterable[Sample]) -> list[str]:
    """What is odd but no error, each kind with its number and an example.

    Args:
        samples: with an `AnnotatedImage`'s annotation each.
    """
    found: dict[str, list[str]] = {
        "crowd annotations (left out of training; scoring ignores what is detected there)": [],
        "boxes without width or height (left out of training)": [],
        "boxes wholly outside their image (left out of training)": [],
        "boxes partly outside their image (clipped in training)": [],
        "images without objects (left out of training)": [],
    }
    crowds, flat, outside, partly, empty = found.values()
    for sample in samples:
        width, height = sample.annotation["width"], sample.annotation["height"]
        if not sample.annotation["objects"]:
            empty.append(f"image {sample.id}")
        for item in sample.annotation["objects"]:
            x, y, w, h = item["bbox"]
            example = f"annotation {item['id']} of image {sample.id}"
            if item["iscrowd"]:
                crowds.append(example)
            if w <= 0 or h <= 0:
                flat.append(example)
            elif x >= width or y >= height or x + w <= 0 or y + h <= 0:
                outside.append(example)
            elif x < 0 or y < 0 or x + w > width or y + h > height:
                partly.append(example)
    return [f"{kind}: {len(examples):,}, such as {examples[0]}" for kind, examples in found.items() if examples]


def _needed(row: dict) -> dict:
    """An object of the file without what nobody needs: addresses, licences, dates."""
    if "file_name" in row:
        return {name: row[name] for name in IMAGE if name in row}
    if "image_id" in row and len(row) > len(ANNOTATION) + 1:
        return {name: row[name] for name in (*ANNOTATION, SEGMENTATION) if name in row}
    return row


def _without_images(row: dict) -> dict | None:
    return None if "file_name" in row or "image_id" in row else row


def _rows(content: Any, name: str, path: Path) -> list[Any]:
    rows = field(content, name, where=str(path))
    if not isinstance(rows, list):
        raise InputError(f"{path}: the field '{name}' is no list. Download the file again.")
    return rows


def _categories(content: Any, path: Path) -> dict[int, str]:
    rows = _rows(content, "categories", path)
    if not rows:
        raise InputError(f"{path} has no category. Download the file again.")
    for row in rows:
        _require_fields(row, {"id", "name"}, where=f"{path}: a category")
        _require_id(row["id"], where=f"{path}: a category")
    _require_unique((row["id"] for row in rows), what="category", path=path)
    return {row["id"]: str(row["name"]) for row in rows}


def _images(content: Any, path: Path) -> dict[int, AnnotatedImage]:
    """Images by id, without objects yet."""
    rows = _rows(content, "images", path)
    for row in rows:
        _require_fields(row, IMAGE, where=f"{path}: an image")
        _require_id(row["id"], where=f"{path}: an image")
        if not (_is_number(row["width"]) and _is_number(row["height"]) and row["width"] > 0 and row["height"] > 0):
            raise InputError(
                f"{path}: image {row['id']} has width {row['width']!r} and height {row['height']!r}. Mend or remove it."
            )
    _require_unique((row["id"] for row in rows), what="image", path=path)
    return {
        row["id"]: AnnotatedImage(
            row["id"], row["file_name"], {"width": row["width"], "height": row["height"], "objects": []}
        )
        for row in rows
    }


def _add_objects(
    images: Mapping[int, AnnotatedImage], categories: Mapping[int, str], rows: Sequence[Any], path: Path
) -> None:
    has_masks = any(isinstance(row, dict) and SEGMENTATION in row for row in rows)
    required = ANNOTATION | {SEGMENTATION} if has_masks else ANNOTATION
    for row in rows:
        _require_fields(row, required, where=f"{path}: an annotation")
        image = images.get(row.pop("image_id"))
        problem = "is of an image that the file does not list" if image is None else _problem(row, image, categories)
        if problem:
            raise InputError(f"{path}: annotation {row['id']} {problem}. Mend or remove it.")
        image.annotation["objects"].append(row)
    _require_unique((row["id"] for row in rows), what="annotation", path=path)


def _problem(row: dict[str, Any], image: AnnotatedImage, categories: Mapping[int, str]) -> str | None:
    """What is wrong with an annotation, None when nothing is."""
    if row["category_id"] not in categories:
        return f"has the category {row['category_id']!r}, which is not among the file's {len(categories)} categories"
    if row["iscrowd"] not in (0, 1):
        return f"has iscrowd {row['iscrowd']!r}, neither 0 nor 1"
    if not _are_numbers(row["bbox"]) or len(row["bbox"]) != 4:
        return f"has the box {row['bbox']!r}, not four numbers x, y, width, height"
    if not _is_number(row["area"]):
        return f"has the area {row['area']!r}, no number"
    if SEGMENTATION in row:
        return _mask_problem(row[SEGMENTATION], image.annotation["width"], image.annotation["height"])
    return None


def _mask_problem(segmentation: Any, width: int, height: int) -> str | None:
    if isinstance(segmentation, dict):
        return _code_problem(segmentation, width, height)
    if not isinstance(segmentation, list) or not segmentation:
        return f"has an empty segmentation, {segmentation!r}: neither polygons nor a run-length code"
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
    if not isinstance(value, int):
        raise InputError(f"{where} has the id {value!r}, no whole number. Number them anew.")


def _require_unique(ids: Iterable[int], *, what: str, path: Path) -> None:
    counts = Counter(ids)
    doubled = [str(name) for name, count in counts.items() if count > 1]
    if doubled:
        more = f" and {len(doubled) - 5:,} more" if len(doubled) > 5 else ""
        raise InputError(
            f"{path} has {what} ids twice: {', '.join(doubled[:5])}{more}. Remove the doubles, or download it again."
        )
