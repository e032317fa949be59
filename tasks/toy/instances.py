"""Toy scenes in the form of COCO's instances: boxes and masks of things, and of crowds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.adapter import Progress
from tasks.toy.coco_masks import box, polygons, run_lengths
from tasks.toy.coco_rows import LICENSE, image_row, info
from tasks.toy.draw import masks, picture_shape
from tasks.toy.files import numbers, save_json, save_picture
from tasks.toy.jumble import Jumble, sample_jumble
from tasks.toy.scene import generator

PARTS = {"train2017": 600, "val2017": 150, "test2017": 60}
YEAR = 2017
ENLARGED = 3  # longer sides of these pictures, in the sides of other forms': room for what COCO calls large
CATEGORIES = {
    1: "circle", 2: "square", 4: "triangle", 5: "star", 8: "ring", 9: "heart", 11: "arrow", 16: "cross", 17: "hexagon",
    20: "crescent",
}  # fmt: skip
"""Names by id; ids have gaps and are in no alphabetical order, as COCO's."""

ROUND = {"circle", "crescent", "heart", "ring"}
IDS = {name: category_id for category_id, name in CATEGORIES.items()}
FIRST_IMAGE = 300_000  # above the ids of the pictures with captions


def write(folder: Path, sizes: Mapping[str, int], *, seed: int, image_size: int, progress: Progress | None) -> None:
    """Write `folder/{train2017,val2017,test2017}/*.jpg` and `folder/annotations/{instances_train2017,
    instances_val2017,image_info_test2017,image_info_test-dev2017}.json`."""
    size = ENLARGED * image_size
    for number, part in enumerate(PARTS):
        images, annotations = [], []
        for index in numbers(sizes[part], f"draw {part}", progress):
            image_id = FIRST_IMAGE + len(PARTS) * index + number
            jumble = sample_jumble(generator(seed, f"coco/{part}", index), size=size)
            file_name = f"{image_id:012d}.jpg"
            save_picture(folder / part / file_name, jumble.scene, image_size=size)
            height, width = picture_shape(jumble.scene, size=size)
            images.append(image_row(image_id, file_name, width, height, year=YEAR))
            if part != "test2017":
                annotations += _annotations(jumble, image_id, size)
        if part != "test2017":
            save_json(folder / "annotations" / f"instances_{part}.json", _file(images, annotations=annotations))
        else:
            save_json(folder / "annotations" / "image_info_test2017.json", _file(images))
            # Half of the pictures, as in COCO: a prediction for the other half is refused.
            save_json(folder / "annotations" / "image_info_test-dev2017.json", _file(images[::2]))


def _annotations(jumble: Jumble, image_id: int, size: int) -> list[dict[str, Any]]:
    seen = masks(jumble.scene, size=size)
    found = [
        {
            "segmentation": polygons(mask),
            "area": float(mask.sum()),
            "iscrowd": 0,
            "image_id": image_id,
            "bbox": [float(value) for value in box(mask)],
            "category_id": IDS[thing.shape],
            "id": 100 * image_id + number,
        }
        for number, (thing, mask) in enumerate(zip(jumble.singles, seen, strict=False))
    ]
    if jumble.crowd:
        category = IDS[jumble.scene.things[-1].shape]
        mask = seen[len(jumble.singles) :].any(0)
        found.append(
            {
                "segmentation": run_lengths(mask),
                "area": int(mask.sum()),
                "iscrowd": 1,
                "image_id": image_id,
                "bbox": box(mask),
                "category_id": category,
                "id": int(f"9{category:03d}{image_id:08d}"),  # COCO's way, too large for 32 bits
            }
        )
    return found


def _file(images: list[dict[str, Any]], **annotations: list[dict[str, Any]]) -> dict[str, Any]:
    categories = [
        {"supercategory": "round" if name in ROUND else "angular", "id": category_id, "name": name}
        for category_id, name in CATEGORIES.items()
    ]
    return {"info": info(YEAR), "licenses": [LICENSE], "images": images, **annotations, "categories": categories}
