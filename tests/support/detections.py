"""Made-up detections and objects, and what pycocotools says of them."""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

IOU_TYPES = {"box": "bbox", "mask": "segm"}
CORNERS = 24  # of a polygon


class Detected(NamedTuple):
    """As `tasks.detection.metrics.measure` takes them: truths and predictions of each image, category names."""

    truths: list[dict[str, Any]]
    predictions: list[dict[str, Any]]
    categories: dict[int, str]


def scenes(
    *,
    images: int,
    detections: int,
    objects: float,
    classes: int,
    size: tuple[int, int],
    sides: tuple[int, int],
    seed: int = 0,
    coarse: bool = False,
) -> Detected:
    """Blobs, some of them found well, badly, as another class or more than once, and detections of nothing.

    Args:
        detections: per image, each from none to twice as many with `coarse`.
        objects: per image, in the mean. One in twelve is a crowd.
        size: height and width of an image.
        sides: smallest and largest side of an object.
        coarse: whole coordinates and few different scores, so that many overlaps and scores are equal and at bounds;
            images without objects or detections; crowds of both RLE forms, and areas at the bounds of the ranges.
    """
    rng = np.random.default_rng(seed)
    ids = (rng.permutation(3 * classes)[:classes] + 1).tolist()
    popular = 1 / np.arange(1, classes + 1)
    popular /= popular.sum()
    truths, predictions = [], []
    for image in range(images):
        count = rng.poisson(objects) * (not coarse or image % 7 > 0)
        real = [_object(rng, ids, popular, size, sides, coarse) for _ in range(count)]
        truths.append({"height": size[0], "width": size[1], "objects": real})
        some = rng.integers(2 * detections + 1) * (image % 5 > 0) if coarse else detections
        predictions.append(_prediction(rng, real, some, ids, popular, size, sides, coarse))
    return Detected(truths, predictions, {number: f"class{number}" for number in ids})


def _box(rng: np.random.Generator, size: tuple[int, int], sides: tuple[int, int], coarse: bool) -> np.ndarray:
    """x, y, width, height within the image."""
    width_height = np.exp(rng.uniform(*np.log(sides), 2))
    centre = rng.random(2) * size[::-1]
    low, high = (centre - width_height / 2).clip(0), np.minimum(centre + width_height / 2, size[::-1])
    box = np.concatenate([low, high - low])
    return box.round() if coarse else box.round(2)


def _polygon(box: np.ndarray, rng: np.random.Generator) -> list[float]:
    angles = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    radius = rng.uniform(0.8, 1, CORNERS) / 2
    points = box[:2] + box[2:] * (0.5 + np.stack([radius * np.cos(angles), radius * np.sin(angles)], 1))
    return points.round(2).ravel().tolist()


def _rle(box: np.ndarray, size: tuple[int, int], rng: np.random.Generator) -> dict[str, Any]:
    rle = mask.merge(mask.frPyObjects([_polygon(box, rng)], *size))
    return {"size": list(size), "counts": rle["counts"].decode()}


def _uncompressed(rle: Mapping[str, Any]) -> dict[str, Any]:
    pixels = mask.decode(rle).ravel(order="F")
    starts = np.flatnonzero(np.diff(pixels, prepend=0))
    return {"size": rle["size"], "counts": np.diff([0, *starts, len(pixels)]).tolist()}


def _object(
    rng: np.random.Generator,
    ids: Sequence[int],
    popular: np.ndarray,
    size: tuple[int, int],
    sides: tuple[int, int],
    coarse: bool,
) -> dict[str, Any]:
    box = _box(rng, size, sides, coarse)
    crowd = rng.random() < 1 / 12
    segmentation: Any = [_polygon(box, rng)]
    if coarse:
        rle = _rle(box, size, rng)
        several = [*segmentation, _polygon(_box(rng, size, sides, coarse), rng)]
        forms = [rle, _uncompressed(rle)] if crowd else [segmentation, several, rle]
        segmentation = forms[rng.integers(len(forms))]
    area = float(rng.choice([32**2, 96**2])) if coarse and rng.random() < 0.2 else float(0.75 * box[2] * box[3])
    return {
        "category_id": int(rng.choice(ids, p=popular)),
        "bbox": box.tolist(),
        "area": area,
        "iscrowd": int(crowd),
        "segmentation": segmentation,
    }


def _prediction(
    rng: np.random.Generator,
    objects: Sequence[Mapping[str, Any]],
    count: int,
    ids: Sequence[int],
    popular: np.ndarray,
    size: tuple[int, int],
    sides: tuple[int, int],
    coarse: bool,
) -> dict[str, Any]:
    boxes, labels, scores = np.zeros((count, 4)), np.zeros(count, int), np.zeros(count)
    for place in range(count):
        labels[place] = rng.choice(ids, p=popular)
        if objects and rng.random() < 0.6:
            found = objects[rng.integers(len(objects))]
            box = np.array(found["bbox"])
            shift = rng.normal(0, 0.06, 4) * np.tile(box[2:], 2)
            boxes[place] = box + (shift.round() if coarse else shift)
            if coarse and rng.random() < 0.2:
                boxes[place] = box * [1, 1, rng.choice([0.5, 0.75]), 1]  # the very overlap that is asked for
            if rng.random() < 0.9:
                labels[place] = found["category_id"]
            scores[place] = rng.beta(3, 2)
        else:
            boxes[place] = _box(rng, size, sides, coarse)
            scores[place] = rng.beta(1, 4)
    boxes[:, 2:] = np.abs(boxes[:, 2:])
    return {
        "boxes": boxes,
        "scores": scores.round(1) if coarse else scores,
        "labels": labels,
        "masks": [_rle(box, size, rng) for box in boxes],
    }


def loaded(data: Detected, kind: str) -> tuple[COCO, COCO]:
    """Annotations and results as pycocotools loads them; the images' ids are their places, from 1."""
    annotations = COCO()
    objects = [(image, one) for image, truth in enumerate(data.truths, 1) for one in truth["objects"]]
    annotations.dataset = {
        "info": {},
        "images": [{"id": n, "height": t["height"], "width": t["width"]} for n, t in enumerate(data.truths, 1)],
        "categories": [{"id": number, "name": name} for number, name in data.categories.items()],
        "annotations": [
            {**copy.deepcopy(one), "id": number, "image_id": image} for number, (image, one) in enumerate(objects, 1)
        ],
    }
    results = []
    for image, record in enumerate(data.predictions, 1):
        for place, (score, label) in enumerate(zip(record["scores"].tolist(), record["labels"].tolist(), strict=True)):
            row = {"image_id": image, "category_id": label, "score": score}
            if kind == "box":
                row["bbox"] = record["boxes"][place].tolist()
            else:
                row["segmentation"] = dict(record["masks"][place])
            results.append(row)
    with contextlib.redirect_stdout(io.StringIO()):
        annotations.createIndex()
        return annotations, annotations.loadRes(results)


def evaluated(pair: tuple[COCO, COCO], kind: str) -> COCOeval:
    """pycocotools' evaluation: `stats` has the twelve numbers, `eval` the precisions."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(*pair, IOU_TYPES[kind])
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation
