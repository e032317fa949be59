from __future__ import annotations

import json
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.detection.annotations import DetectionSamples, with_objects
from tasks.detection.instance_columns import AnnotatedImages
from tasks.detection.instances_file import read_instances
from tests.support.instances import content, image_row, rectangle

SIZE = (640, 480)


def read(path: Path, rows: list[dict], images: int = 3) -> AnnotatedImages:
    path.write_text(json.dumps(content([image_row(10 - n, *SIZE) for n in range(images)], rows)))
    return read_instances(path).images


def test_objects_come_back_with_their_images_whatever_their_order(tmp_path: Path) -> None:
    rng = random.Random(0)
    rows = [
        rectangle(1000 + n, rng.choice((10, 9, 8)), rng.choice((3, 7, 90)), [round(rng.uniform(0, 99), 2)] * 4)
        for n in range(50)
    ]
    images = read(tmp_path / "a.json", rows)
    for image in images:
        own = [{name: row[name] for name in row if name != "image_id"} for row in rows if row["image_id"] == image.id]
        assert own == image.annotation["objects"]
        assert all(isinstance(item["iscrowd"], int) and isinstance(item["id"], int) for item in own)


def test_annotations_in_front_of_the_images_are_read_too(tmp_path: Path) -> None:
    whole = content([image_row(1, *SIZE)], [rectangle(5, 1, 3, (1, 2, 3, 4))])
    path = tmp_path / "a.json"
    path.write_text(json.dumps(dict(reversed(whole.items()))))
    assert next(iter(json.loads(path.read_text()))) == "annotations"
    (image,) = read_instances(path).images
    assert [item["id"] for item in image.annotation["objects"]] == [5]


@pytest.mark.parametrize(
    ("segmentation", "bytes_each"),
    [
        ([[0.07, 1.0, 639.99, 480, 3.3, 7], [1, 2, 3, 4, 5, 6, 7, 8]], 2),
        ([[655.35, 0, 5, 6, 7, 8]], 2),
        ([[655.36, 0, 5, 6, 7, 8]], 4),
        ([[-0.01, 1e6, 5, 6, 7, 8]], 4),
        ([[0.125, 0, 5, 6, 7, 8]], 8),  # thousandths
        ([[1 / 3, 2e9, 5, 6, 7, 1e-30]], 8),
    ],
)
def test_numbers_of_a_mask_are_exact_in_as_few_bytes_as_they_need(
    tmp_path: Path, segmentation: list, bytes_each: int
) -> None:
    images = read(tmp_path / "a.json", [rectangle(1, 9, 3, (0, 0, 9, 9), segmentation=segmentation)])
    assert images[1].annotation["objects"][0]["segmentation"] == segmentation
    numbers = sum(map(len, segmentation))
    assert images.codes.nbytes == 5 + 4 * len(segmentation) + bytes_each * numbers


def test_run_length_codes_come_back_as_they_were(tmp_path: Path) -> None:
    codes: list[Any] = [
        {"size": [480, 640], "counts": [0, 480 * 640]},
        {"size": [480, 640], "counts": "0PP\\9"},
        [[0, 0, 9, 0, 9, 9.5]],
    ]
    rows = [rectangle(n, 10, 3, (0, 0, 9, 9), segmentation=code) for n, code in enumerate(codes)]
    images = read(tmp_path / "a.json", rows)
    assert [item["segmentation"] for item in images[0].annotation["objects"]] == codes


def test_parts_have_the_objects_of_their_images(tmp_path: Path) -> None:
    rows = [rectangle(n, image, 3, (n, 0, 9, 9)) for n, image in enumerate((8, 10, 10, 9, 8))]
    rows[3]["bbox"] = [700, 0, 9, 9]  # outside
    rows[0]["iscrowd"] = 1
    images = read(tmp_path / "a.json", rows)
    assert images.taught.tolist() == [True, False, True]
    assert [image.id for image in images[::-1]] == [8, 9, 10]
    part = images.chosen([2, 0])
    assert part.boxes is images.boxes
    assert [[item["id"] for item in image.annotation["objects"]] for image in part] == [[0, 4], [1, 2]]
    assert list(part) == [images[2], images[0]]
    samples = DetectionSamples(images, "val2017", True)
    assert list(with_objects(samples)) == list(with_objects(list(samples))) == [samples[0], samples[2]]


def test_real_annotations_come_back_exactly_from_two_bytes_a_coordinate(truth: Path) -> None:
    path = truth / "multitask_coco" / "train2017" / "instances.json"
    whole = json.loads(path.read_text())
    images = read_instances(path).images
    found = {item["id"]: item for image in images for item in image.annotation["objects"]}
    fields = ("id", "category_id", "bbox", "area", "iscrowd", "segmentation")
    assert found == {row["id"]: {name: row[name] for name in fields} for row in whole["annotations"]}
    polygons = [row["segmentation"] for row in whole["annotations"] if not row["iscrowd"]]
    crowds = [json.dumps(row["segmentation"]) for row in whole["annotations"] if row["iscrowd"]]
    numbers = sum(len(polygon) for mask in polygons for polygon in mask)
    lengths = 4 * sum(map(len, polygons)) + 5 * len(whole["annotations"])
    assert images.codes.nbytes == 2 * numbers + lengths + sum(map(len, crowds))


def test_only_arrays_are_large(tmp_path: Path) -> None:
    images = read(tmp_path / "a.json", [rectangle(n, 9, 3, (n % 99, 0, 9, 9)) for n in range(2000)])
    buffers: list[pickle.PickleBuffer] = []
    assert len(pickle.dumps(images, protocol=5, buffer_callback=buffers.append)) < 2000
    assert sum(buffer.raw().nbytes for buffer in buffers) < 2000 * (60 + 25)
    assert images.categories.dtype == np.uint8
