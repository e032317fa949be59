"""A small set in COCO's form: dark images with rectangles, each in its category's colour, and predictions of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as codes

from leaderboards.rows import ResultRow
from tasks.adapter import Sample

# Ids have gaps and stand out of order, as in no list of classes.
CATEGORIES = {7: "red", 3: "green", 90: "blue"}
COLOURS = {7: (255, 0, 0), 3: (0, 255, 0), 90: (0, 0, 255)}
FILES = {"train": "instances_train2017", "val": "instances_val2017", "test-dev": "image_info_test-dev2017"}
FOLDERS = {"train": "train2017", "val": "val2017", "test-dev": "test2017"}


def rectangle(number: int, image: int, category: int, box: Sequence[float], **changes: Any) -> dict[str, Any]:
    """The annotation of a rectangle (x, y, width, height), its mask a polygon."""
    x, y, w, h = box
    polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
    row = {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": list(box),
        "area": w * h,
        "iscrowd": 0,
        "segmentation": [polygon],
    }
    return row | changes


def content(images: Sequence[dict], annotations: Sequence[dict] | None = None) -> dict[str, Any]:
    """Content of an annotation file; images as (id, width, height)."""
    whole = {
        "info": {"year": 2017},
        "licenses": [{"id": 1, "name": "none", "url": "x"}],
        "images": images,
        "categories": [{"supercategory": "x", "id": number, "name": name} for number, name in CATEGORIES.items()],
    }
    return whole if annotations is None else whole | {"annotations": annotations}


def image_row(number: int, width: int, height: int) -> dict[str, Any]:
    return {
        "id": number,
        "file_name": f"{number:012d}.png",
        "width": width,
        "height": height,
        "license": 1,
        "coco_url": "x",
    }


def paint(path: Path, width: int, height: int, annotations: Sequence[dict]) -> None:
    """A black image with each annotation's box filled with its category's colour."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    for row in annotations:
        x, y, w, h = (round(value) for value in row["bbox"])
        pixels[max(y, 0) : y + h, max(x, 0) : x + w] = COLOURS[row["category_id"]]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write(
    root: Path, split: str, images: Sequence[tuple[int, int, int]], annotations: Sequence[dict] | None = None
) -> Path:
    """One split: its images as (id, width, height), painted, and its annotation file."""
    rows = [image_row(*image) for image in images]
    for row in rows:
        own = [annotation for annotation in annotations or [] if annotation["image_id"] == row["id"]]
        paint(root / FOLDERS[split] / row["file_name"], row["width"], row["height"], own)
    file = root / "annotations" / f"{FILES[split]}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content(rows, annotations)))
    return root


def edit(root: Path, split: str, change: Callable[[dict], None]) -> None:
    """Change what a split's annotation file has."""
    file = root / "annotations" / f"{FILES[split]}.json"
    whole = json.loads(file.read_text())
    change(whole)
    file.write_text(json.dumps(whole))


def folder(root: Path) -> Path:
    """A coco folder: 6 training images with a rectangle each, 4 validation images with two, 2 of test-dev."""
    colours = list(CATEGORIES)
    train = [rectangle(100 + n, 10 + n, colours[n % 3], (4 + n, 6, 12, 10)) for n in range(6)]
    val = []
    for n in range(4):
        val.append(rectangle(200 + 2 * n, 29 - n, colours[n % 3], (2, 3, 10.5, 12)))
        val.append(rectangle(201 + 2 * n, 29 - n, colours[(n + 1) % 3], (20, 8, 15, 20.25)))
    write(root, "train", [(10 + n, 40, 30) for n in range(6)], train)
    write(root, "val", [(29 - n, 48, 36) for n in range(4)], val)
    return write(root, "test-dev", [(40, 32, 24), (41, 24, 32)])


def code(width: int, height: int, box: tuple[int, int, int, int]) -> dict[str, Any]:
    """A rectangle's run-length code."""
    x, y, w, h = box
    bitmap = np.zeros((height, width), dtype=np.uint8, order="F")
    bitmap[y : y + h, x : x + w] = 1
    packed = codes.encode(bitmap)
    return {"size": packed["size"], "counts": packed["counts"].decode()}


def perfect(samples: list[Sample]) -> dict[str, dict[str, Any]]:
    """Predictions that find every object, by the annotations."""
    records = {}
    for sample in samples:
        objects = sample.annotation["objects"]
        size = sample.inputs["width"], sample.inputs["height"]
        records[sample.id] = {
            "boxes": np.array([item["bbox"] for item in objects], dtype=np.float32).reshape(-1, 4),
            "scores": np.linspace(0.9, 0.5, len(objects), dtype=np.float32),
            "labels": np.array([item["category_id"] for item in objects], dtype=np.int32),
            "masks": [code(*size, tuple(round(v) for v in item["bbox"])) for item in objects],
        }
    return records


def found(*boxes: tuple[float, ...], score: float = 0.5, label: int = 7, **changes: Any) -> dict[str, Any]:
    """A record with these boxes."""
    return {
        "boxes": np.array(boxes, dtype=np.float32).reshape(-1, 4),
        "scores": np.full(len(boxes), score, dtype=np.float32),
        "labels": np.full(len(boxes), label, dtype=np.int32),
    } | changes


def entries(samples: list[Sample], *, masks: bool = False) -> list[dict]:
    """A results file's content that finds every object."""
    return [
        {"image_id": int(sample.id), "category_id": item["category_id"], "score": 0.75}
        | (
            {"segmentation": code(sample.inputs["width"], sample.inputs["height"], (1, 1, 9, 9))}
            if masks
            else {"bbox": item["bbox"]}
        )
        for sample in samples
        for item in sample.annotation["objects"]
    ]


def by_metric(rows: list[ResultRow]) -> dict[str, ResultRow]:
    """Rows over all classes; those of one class come after them."""
    return {row.metric: row for row in reversed(rows)}
