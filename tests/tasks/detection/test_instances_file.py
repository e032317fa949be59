from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from backbones import InputError
from tasks.detection.instances_file import read_instances
from tests.support.instances import CATEGORIES, content, image_row, rectangle

IMAGES = [image_row(5, 40, 30), image_row(2, 20, 20), image_row(9, 8, 8)]
CODE = {"size": [30, 40], "counts": [0, 1200]}


def annotations() -> list[dict]:
    return [
        rectangle(11, 5, 7, (1, 2, 10.5, 8)),
        rectangle(12, 2, 90, (0, 0, 20, 20)),
        rectangle(13, 5, 3, (5, 5, 20, 20)),
    ]


def write(path: Path, rows: list[Any], **changes: Any) -> Path:
    path.write_text(json.dumps(content(IMAGES, rows) | changes))
    return path


def test_images_and_categories_keep_the_files_order(tmp_path: Path) -> None:
    rows = annotations()
    rows[0] |= {"isfake": 0, "isreflected": 1}  # Objects365 has these
    found = read_instances(write(tmp_path / "a.json", rows))
    assert [image.id for image in found.images] == [5, 2, 9]
    assert list(found.categories.items()) == list(CATEGORIES.items())
    first, second, third = found.images
    assert first.file == "000000000005.png"
    assert [item["id"] for item in first.annotation["objects"]] == [11, 13]
    assert third.annotation == {"width": 8, "height": 8, "objects": []}
    assert second.annotation == {
        "width": 20,
        "height": 20,
        "objects": [
            {
                "id": 12,
                "category_id": 90,
                "bbox": [0, 0, 20, 20],
                "area": 400,
                "iscrowd": 0,
                "segmentation": [[0, 0, 20, 0, 20, 20, 0, 20]],
            }
        ],
    }
    assert first.annotation["objects"][0].keys() == second.annotation["objects"][0].keys()


def test_a_list_of_images_has_no_objects(tmp_path: Path) -> None:
    path = tmp_path / "info.json"
    path.write_text(json.dumps(content(IMAGES)))
    found = read_instances(path, labelled=False)
    assert [image.file for image in found.images] == [row["file_name"] for row in IMAGES]
    with pytest.raises(InputError, match="has no field 'annotations'"):
        read_instances(path)


def test_boxes_alone_are_a_form_of_their_own(tmp_path: Path) -> None:
    rows = annotations()
    for row in rows:
        del row["segmentation"]
    found = read_instances(write(tmp_path / "a.json", rows))
    assert "segmentation" not in found.images[0].annotation["objects"][0]
    rows[1]["segmentation"] = [[0, 0, 9, 0, 9, 9]]
    with pytest.raises(InputError, match=r"a\.json: an annotation has no field 'segmentation'"):
        read_instances(write(tmp_path / "a.json", rows))


@pytest.mark.parametrize("name", ["id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation"])
def test_a_missing_field_is_told(tmp_path: Path, name: str) -> None:
    rows = annotations()
    del rows[2][name]
    with pytest.raises(InputError, match=f"an annotation has no field '{name}'"):
        read_instances(write(tmp_path / "a.json", rows))


def test_an_object_with_an_empty_segmentation_has_no_mask(tmp_path: Path) -> None:
    rows = annotations()
    rows[0]["segmentation"] = []
    images = read_instances(write(tmp_path / "a.json", rows)).images
    first, second, _ = images
    assert [item.get("segmentation") for item in first.annotation["objects"]] == [None, rows[2]["segmentation"]]
    assert second.annotation["objects"][0]["segmentation"] == rows[1]["segmentation"]
    assert images.masked.tolist() == [False, True, True]
    assert images[1:].masked.tolist() == [True]


@pytest.mark.parametrize("name", ["id", "file_name", "width", "height"])
def test_a_missing_field_of_an_image_is_told(tmp_path: Path, name: str) -> None:
    images = [dict(image) for image in IMAGES]
    del images[1][name]
    with pytest.raises(InputError, match=f"an image has no field '{name}'"):
        read_instances(write(tmp_path / "a.json", [], images=images))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 4}, "annotation 13 is of an image that the file does not list"),
        ({"category_id": 1}, "annotation 13 has the category 1, which is not among the file's 3 categories"),
        ({"iscrowd": 2}, "annotation 13 has iscrowd 2"),
        ({"bbox": [1, 2, 3]}, r"annotation 13 has the box \[1, 2, 3\], not four numbers"),
        ({"bbox": [1, 2, 3, float("nan")]}, "annotation 13 has the box .*nan"),
        ({"bbox": None}, "annotation 13 has the box None"),
        ({"area": "12"}, "annotation 13 has the area '12'"),
        ({"segmentation": None}, "annotation 13 has the segmentation None, neither polygons nor a run-length code"),
        ({"segmentation": [[]]}, "annotation 13 has a polygon that is not x, y of three or more points"),
        ({"segmentation": [[1, 1, 5, 1, 5, 5], [1, 2, 3, 4]]}, r"annotation 13 has a polygon .*: \[1, 2, 3, 4\]"),
        ({"segmentation": [[1, 1, 5, 1, 5, 5, 1]]}, r"annotation 13 has a polygon"),
        ({"segmentation": [[1, 1, 5, 1, 5, float("inf")]]}, "annotation 13 has a polygon"),
        ({"segmentation": [["1", 1, 5, 1, 5, 2]]}, "annotation 13 has a polygon"),
        ({"segmentation": CODE | {"size": [40, 30]}}, r"of size \[40, 30\], and its image is \[30, 40\]"),
        ({"segmentation": CODE | {"counts": [0, 1000]}}, "of 1000 pixels, and its image has 1200"),
        ({"segmentation": CODE | {"counts": "0P1"}}, "of 32 pixels, and its image has 1200"),
        ({"segmentation": CODE | {"counts": "0`"}}, "counts are broken"),
        ({"segmentation": CODE | {"counts": [1300, -100]}}, "without counts"),
        ({"bbox": [1, 2, -3, 4]}, "width or height is no length"),
        ({"bbox": [1, 2, True, 4]}, "width or height is no length"),
        ({"area": -1}, "area -1, not a number from 0"),
        ({"area": 10**400}, "not a number from 0"),
        ({"segmentation": {"size": [30, 40]}}, "a run-length code without counts"),
        ({"id": 11}, r"has 1 annotation id\(s\) twice: 11\."),
    ],
)
def test_an_annotation_that_cannot_be_meant_is_told(tmp_path: Path, change: dict, message: str) -> None:
    rows = annotations()
    rows[2] |= change
    with pytest.raises(InputError, match=message):
        read_instances(write(tmp_path / "a.json", rows))


def test_the_annotations_before_the_change_are_right(tmp_path: Path) -> None:
    rows = annotations()
    for segmentation in (CODE, CODE | {"counts": "0`U1"}, [[1, 1, 5, 1, 5, 5]]):
        rows[2]["segmentation"] = segmentation
        assert read_instances(write(tmp_path / "a.json", rows)).images


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": [*IMAGES, IMAGES[1], IMAGES[2]]}, r"has 2 image id\(s\) twice: 2, 9\."),
        ({"images": [IMAGES[0] | {"id": "5"}]}, "an image has the id '5', not a whole number"),
        ({"images": [IMAGES[0] | {"width": 0}]}, "image 5 has width 0 and height 30"),
        ({"images": None}, "the field 'images' is not a list"),
        ({"categories": []}, "has no category"),
        ({"categories": [{"id": 3, "name": "a"}] * 2}, r"has 1 category id\(s\) twice: 3"),
        ({"categories": [{"id": 3}]}, "a category has no field 'name'"),
        ({"annotations": [4]}, "an annotation has no field"),
    ],
)
def test_a_file_that_cannot_be_meant_is_told(tmp_path: Path, changes: dict, message: str) -> None:
    path = write(tmp_path / "a.json", [], **changes)
    with pytest.raises(InputError, match=message):
        read_instances(path)


@pytest.mark.parametrize(
    ("text", "message"), [("{", "cannot be read"), ("[]", "cannot be read: Expecting .{., an object")]
)
def test_what_is_no_such_file_is_told(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_instances(path)
    with pytest.raises(InputError, match=r"absent\.json .* is absent"):
        read_instances(tmp_path / "absent.json")


def test_real_annotations(truth: Path) -> None:
    train = read_instances(truth / "multitask_coco" / "train2017" / "instances.json")
    assert (len(train.images), len(train.categories)) == (128, 80)
    assert sum(len(image.annotation["objects"]) for image in train.images) == 939
    val = read_instances(truth / "multitask_coco" / "val2017" / "instances.json")
    assert sum(len(image.annotation["objects"]) for image in val.images) == 712
    assert val.categories == train.categories
