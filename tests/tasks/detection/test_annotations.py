from __future__ import annotations

import json
from pathlib import Path

from tasks.adapter import Sample
from tasks.detection.annotations import annotation_warnings, usable
from tasks.detection.instances_file import Instances, read_instances
from tests.support.instances import content, image_row, rectangle

IMAGES = [image_row(5, 40, 30), image_row(2, 20, 20), image_row(9, 8, 8)]
CODE = {"size": [30, 40], "counts": [0, 1200]}


def samples(instances: Instances) -> list[Sample]:
    return [Sample(str(image.id), {}, image.annotation) for image in instances.images]


def test_oddities_are_counted_with_an_example(tmp_path: Path) -> None:
    rows = [
        rectangle(11, 5, 7, (0, 0, 40, 30)),
        rectangle(12, 5, 7, (3, 4, 0, 5)),
        rectangle(13, 5, 7, (3, 4, 5, 0)),
        rectangle(14, 5, 7, (40, 4, 5, 5)),
        rectangle(15, 5, 7, (39, 4, 5, 5)),
        rectangle(16, 5, 7, (-2, 4, 5, 5)),
        rectangle(17, 5, 7, (0, 0, 20, 20), iscrowd=1, segmentation=CODE),
        rectangle(18, 2, 7, (1, 1, 4, 4), iscrowd=1, segmentation={"size": [20, 20], "counts": [400]}),
    ]
    file = tmp_path / "a.json"
    file.write_text(json.dumps(content(IMAGES, rows)))
    found = read_instances(file)
    told = annotation_warnings(samples(found))
    assert [(line.split(" (")[0], line.split("): ")[1]) for line in told] == [
        ("crowd annotations", "2, such as annotation 17 of image 5"),
        ("boxes without width or height", "2, such as annotation 12 of image 5"),
        ("boxes wholly outside their image", "1, such as annotation 14 of image 5"),
        ("boxes partly outside their image", "2, such as annotation 15 of image 5"),
        ("images without objects", "1, such as image 9"),
    ]
    objects = found.images[0].annotation["objects"]
    assert [item["id"] for item in objects if usable(item, width=40, height=30)] == [11, 15, 16]


def test_warnings_of_real_annotations(truth: Path) -> None:
    train = read_instances(truth / "multitask_coco" / "train2017" / "instances.json")
    (crowds, empty) = annotation_warnings(samples(train))
    assert (crowds.split("): ")[1][:3], empty.split("): ")[1][:2]) == ("10,", "2,")
