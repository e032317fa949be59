"""Scores of COCO detection and instance segmentation, equal to those of pycocotools' COCOeval.

Detections are matched with objects once (`matching`); the numbers are functions of the matches and of how
often each image counts (`average_precision`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from backbones.errors import InputError
from tasks.bootstrap import Measurement, unavailable
from tasks.detection.average_precision import NAMES, AveragePrecision
from tasks.detection.matching import Kind, match
from tasks.detection.run_lengths import pixels

_SIZES = {
    "s": "small objects (up to 32² pixels)",
    "m": "objects of medium size (32² to 96² pixels)",
    "l": "large objects (96² pixels and more)",
}
_FORM = (
    "A record of this task has scores [n] and labels [n] (category ids), and boxes [n, 4] (x, y, width, height in "
    "pixels) or masks (n RLE objects) or both."
)


def measure(
    predictions: Sequence[Mapping[str, Any]],
    truths: Sequence[Mapping[str, Any]],
    categories: Mapping[int, str],
    *,
    kind: Kind,
) -> list[Measurement]:
    """The twelve numbers of COCO in percent, `box_AP` … `box_ARl` or `mask_AP` … `mask_ARl`, then AP of each class.

    The unit is the image. A number without objects is unavailable (pycocotools prints -1); it is NaN in a bootstrap
    draw without such objects.

    Args:
        predictions: one record per image, as `checked` returns them.
        truths: one per image, in the same order: {"width", "height", "objects": [{"category_id", "bbox" (x, y, width,
            height), "area", "iscrowd", "segmentation" (polygons or RLE; for masks only)}]}, in pixels. Equal scores of
            different images go in this order; pycocotools' is that of rising image ids.
        categories: category id to name; every object's is among them.
        kind: what has to overlap.
    """
    images = len(truths)
    precision = AveragePrecision(match(predictions, truths, list(categories), kind=kind))
    plain = precision.at(np.ones(images))

    def statistic(weights: np.ndarray) -> np.ndarray:
        return 100 * precision.at(weights)

    def measured(metric: str, index: int, objects: str) -> Measurement:
        if np.isnan(plain[index]):
            reason = f"The images have no {objects} to find (crowds are not counted). Score images that have some."
            return unavailable(metric, reason, samples=images)
        return Measurement(metric, images, images, statistic, index=index)

    whole = [measured(f"{kind}_{name}", index, _SIZES.get(name[-1], "objects")) for index, name in enumerate(NAMES)]
    classes = [
        replace(measured(f"{kind}_AP", index, f"objects of class {name}"), of=name)
        for index, name in enumerate(categories.values(), len(NAMES))
    ]
    return [*whole, *classes]


def checked(
    record: Mapping[str, Any], truth: Mapping[str, Any], categories: Collection[int], *, image: str
) -> dict[str, Any]:
    """The prediction of one image, in the form that is scored.

    Args:
        record: "scores" [n] and "labels" [n] (category ids), and "boxes" [n, 4] (x, y, width, height) or "masks"
            (n compressed RLE objects, {"size": [height, width], "counts": text}), or both; n may be 0.
        truth: the image's "width" and "height".
        categories: the known category ids.
        image: its name, for messages.

    Returns:
        "scores" float64 [n], "labels" int64 [n], and what the record has of "boxes" float64 [n, 4] and "masks".

    Raises:
        InputError: another form, a number that is not finite, an unknown category, a mask of another size than the
            image's or with broken counts; the message names the image.
    """
    where = f"The prediction of image {image}"
    scores, labels = (_numbers(record, name, where) for name in ("scores", "labels"))
    if scores.shape != (len(labels),) or labels.ndim != 1:
        raise InputError(f"{where} has scores {list(scores.shape)} and labels {list(labels.shape)}. {_FORM}")
    unknown = [label for label in labels.tolist() if label not in categories]
    if unknown:
        raise InputError(
            f"{where} has the label {unknown[0]:g}, which is not a category id of the annotations. Labels are category "
            "ids as in the annotation file (of COCO 1 to 90, with gaps), not indices of a list of classes."
        )
    found: dict[str, Any] = {"scores": scores, "labels": labels.astype(np.int64)}
    if "boxes" not in record and "masks" not in record:
        raise InputError(f"{where} has neither boxes nor masks. {_FORM}")
    if "boxes" in record:
        boxes = _numbers(record, "boxes", where)
        if boxes.shape != (len(scores), 4) and boxes.size + len(scores):
            raise InputError(f"{where} has {len(scores)} scores and boxes {list(boxes.shape)}. {_FORM}")
        found["boxes"] = boxes.reshape(-1, 4)
    if "masks" in record:
        found["masks"] = _masks(record["masks"], len(scores), [truth["height"], truth["width"]], where)
    return found


def _numbers(record: Mapping[str, Any], name: str, where: str) -> np.ndarray:
    """One array of the record, as float64."""
    try:
        values = np.asarray(record[name], dtype=np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{where} has no array of numbers '{name}' ({error!r}). {_FORM}") from None
    wrong = values[~np.isfinite(values)]
    if wrong.size:
        raise InputError(
            f"{where} has {wrong.size} of {values.size} numbers in '{name}' that are not finite, such as {wrong[0]}: "
            "the model diverged, or its half precision overflowed. Predict again with sound weights."
        )
    return values


def _masks(masks: Any, count: int, size: list[int], where: str) -> list[dict[str, Any]]:
    from faster_coco_eval.core import mask

    if not isinstance(masks, Sequence) or isinstance(masks, str) or len(masks) != count:
        given = f"{len(masks)} masks" if isinstance(masks, Sequence) else f"masks {masks!r:.40}"
        raise InputError(f"{where} has {count} scores and {given}. {_FORM}")
    for index, rle in enumerate(masks):
        if not isinstance(rle, Mapping) or not isinstance(rle.get("counts"), str | bytes) or "size" not in rle:
            raise InputError(
                f"{where} has a mask {index} that is not a compressed RLE object: {rle!s:.80}. Such an object is "
                '{"size": [height, width], "counts": text}, as pycocotools.mask.encode makes it.'
            )
        if rle["size"] not in (size, tuple(size)):
            raise InputError(
                f"{where} has a mask {index} of size {rle['size']}, and the image has {size} (height, width). "
                "Scale masks back to the original image before encoding them."
            )
    # The compiled overlaps of codes that end before the image does never return.
    found = pixels([rle["counts"] for rle in masks])
    for index in np.flatnonzero(found != size[0] * size[1])[:1]:
        problem = "has broken counts" if found[index] < 0 else f"has counts of {found[index]:,} pixels"
        raise InputError(
            f"{where}: mask {index} {problem}, and the image has {size[0] * size[1]:,}. Encode the masks again."
        )
    try:
        mask.area(list(masks))
    except (ValueError, RuntimeError) as error:
        raise InputError(f"{where} has a mask whose counts are broken: {error} Encode the masks again.") from None
    return list(masks)
