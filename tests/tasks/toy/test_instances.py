"""The toy set in the form of COCO's instances, as pycocotools reads it and as the pictures show it."""

from __future__ import annotations

import contextlib
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tasks.toy import instances
from tasks.toy.draw import draw, masks
from tasks.toy.jumble import sample_jumble
from tasks.toy.scene import generator
from tasks.toy.shapes import SHAPES
from tests.tasks.toy.baselines import colour_shares, logistic

pytestmark = pytest.mark.slow  # draws pictures

SIZES = {"train2017": 120, "val2017": 60, "test2017": 12}
LABELLED = ("train2017", "val2017")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of the default size. Read only."""
    folder = tmp_path_factory.mktemp("toy")
    instances.write(folder, SIZES, seed=0, image_size=80, progress=None)
    return folder


@pytest.fixture(scope="module")
def opened(folder: Path) -> dict[str, COCO]:
    return {part: open_coco(folder / "annotations" / f"instances_{part}.json") for part in LABELLED}


def open_coco(path: Path) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def kinds(row: dict[str, Any]) -> dict[str, type]:
    return {name: type(value) for name, value in row.items()}


def annotations(opened: dict[str, COCO], *, crowd: int) -> list[dict[str, Any]]:
    return [row for coco in opened.values() for row in coco.anns.values() if row["iscrowd"] == crowd]


def pixels(folder: Path, part: str, coco: COCO, image_id: int) -> np.ndarray:
    with Image.open(folder / part / coco.imgs[image_id]["file_name"]) as image:
        return np.asarray(image)


def coloured(picture: np.ndarray) -> np.ndarray:
    """Mask of the objects: backgrounds are pale, everything on them has a dark channel."""
    return picture.min(-1) < 150


def eroded(mask: np.ndarray, pixels: int = 2) -> np.ndarray:
    for _ in range(pixels):
        padded = np.pad(mask, 1)
        mask = padded[1:-1, 1:-1] & padded[2:, 1:-1] & padded[:-2, 1:-1] & padded[1:-1, 2:] & padded[1:-1, :-2]
    return mask


def test_files_are_the_official_ones(folder: Path) -> None:
    assert {path.name for path in (folder / "annotations").iterdir()} == {
        "instances_train2017.json",
        "instances_val2017.json",
        "image_info_test2017.json",
        "image_info_test-dev2017.json",
    }
    sizes = set()
    for part, name in (*((part, f"instances_{part}") for part in LABELLED), ("test2017", "image_info_test2017")):
        images = read(folder / "annotations" / f"{name}.json")["images"]
        assert len(images) == SIZES[part]
        assert {f"{image['id']:012d}.jpg" for image in images} == {path.name for path in (folder / part).iterdir()}
        for image in images:
            assert image["file_name"] == f"{image['id']:012d}.jpg"
            with Image.open(folder / part / image["file_name"]) as picture:
                assert (picture.format, picture.mode) == ("JPEG", "RGB")
                assert picture.size == (image["width"], image["height"])
                sizes.add(picture.size)
    assert sizes == {(240, 180), (180, 240), (240, 240)}


def test_fields_are_those_of_the_real_ones(folder: Path, truth: Path) -> None:
    real = read(truth / "coco_det" / "instances_val2014_100.json")
    real_rows = {row["iscrowd"]: kinds(row) for row in real["annotations"]}
    for part in LABELLED:
        ours = read(folder / "annotations" / f"instances_{part}.json")
        assert ours.keys() == real.keys()
        for name in ("images", "categories", "licenses"):
            assert kinds(ours[name][0]) == kinds(real[name][0])
        assert kinds(ours["info"]) == kinds(real["info"])
        for row in ours["annotations"]:
            assert kinds(row) == real_rows[row["iscrowd"]]
            assert {type(value) for value in row["bbox"]} == {int if row["iscrowd"] else float}


def test_the_truth_of_test_is_not_there(folder: Path) -> None:
    """And half of its pictures are not asked for."""
    test, dev = (read(folder / "annotations" / f"image_info_{name}2017.json") for name in ("test", "test-dev"))
    for content in (test, dev):
        assert content.keys() == {"info", "licenses", "images", "categories"}
        assert content["categories"] == read(folder / "annotations" / "instances_val2017.json")["categories"]
    assert len(dev["images"]) == 6
    assert all(image in test["images"] for image in dev["images"])


def test_categories_are_shapes_with_ids_that_are_no_indices(opened: dict[str, COCO]) -> None:
    for coco in opened.values():
        ids = [row["id"] for row in coco.dataset["categories"]]
        names = [row["name"] for row in coco.dataset["categories"]]
        assert ids == sorted(set(ids)) and len(ids) == len(names) == 10
        assert set(ids) != set(range(10)) and set(ids) != set(range(1, 11))
        assert set(names) == set(SHAPES) and names != sorted(names)
        assert {row["category_id"] for row in coco.anns.values()} == set(ids)


def test_ids_differ(folder: Path, opened: dict[str, COCO]) -> None:
    rows = [row for coco in opened.values() for row in coco.dataset["annotations"]]
    assert len({row["id"] for row in rows}) == len(rows) > 500
    files = [read(path) for path in (folder / "annotations").glob("*2017.json") if "test-dev" not in path.name]
    images = [image["id"] for content in files for image in content["images"]]
    assert len(set(images)) == len(images) == sum(SIZES.values())
    for coco in opened.values():
        assert {row["image_id"] for row in coco.anns.values()} <= coco.imgs.keys()


@pytest.mark.parametrize("part", LABELLED)
def test_masks_and_boxes_are_what_is_drawn(opened: dict[str, COCO], part: str) -> None:
    coco = opened[part]
    for index, image_id in enumerate(coco.getImgIds()):
        jumble = sample_jumble(generator(0, f"coco/{part}", index), size=240)
        seen = masks(jumble.scene, size=240)
        expected = [(thing.shape, mask) for thing, mask in zip(jumble.singles, seen, strict=False)]
        if jumble.crowd:
            expected.append((jumble.scene.things[-1].shape, seen[len(jumble.singles) :].any(0)))
        rows = coco.loadAnns(coco.getAnnIds(image_id))
        assert len(rows) == len(expected)
        for row, (shape, mask) in zip(rows, expected, strict=True):
            assert coco.cats[row["category_id"]]["name"] == shape
            again = coco.annToMask(row).astype(bool)
            assert (again & mask).sum() / (again | mask).sum() > (0.99 if not row["iscrowd"] else 0.999999)
            assert row["area"] == mask.sum() >= 16
            assert row["bbox"] == coco_mask.toBbox(coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))).tolist()


def test_polygons_have_the_area_of_their_masks(opened: dict[str, COCO]) -> None:
    """By the shoelace formula, which goes once around a hole the other way."""
    for row in annotations(opened, crowd=0):
        area = 0.0
        for outline in row["segmentation"]:
            x, y = np.array(outline).reshape(-1, 2).T
            area += abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2
        assert area == pytest.approx(row["area"], rel=0.04)


@pytest.mark.parametrize("part", LABELLED)
def test_masks_agree_with_the_pixels(folder: Path, opened: dict[str, COCO], part: str) -> None:
    """Told from the JPEG files alone: masks lie on what is no background, and nothing else is there but clutter."""
    coco = opened[part]
    outside = []
    for image_id in coco.getImgIds():
        picture = pixels(folder, part, coco, image_id)
        covered = np.zeros(picture.shape[:2], int)
        for row in coco.loadAnns(coco.getAnnIds(image_id)):
            mask = coco.annToMask(row).astype(bool)
            inner = eroded(mask)
            if inner.sum() > 20:
                assert coloured(picture)[inner].mean() > 0.97
            covered += mask
        assert (covered > 1).sum() <= 5  # where simplified outlines meet
        outside.append(coloured(picture)[eroded(covered == 0)].mean())
    assert max(outside) < 0.12
    assert np.median(outside) < 0.02
    assert min(outside) == 0


def test_small_medium_and_large_things_are_there(opened: dict[str, COCO]) -> None:
    for coco in opened.values():
        areas = np.array([row["area"] for row in coco.anns.values() if not row["iscrowd"]])
        small, large = (areas < 32**2).mean(), (areas > 96**2).mean()
        assert small > 0.25 and large > 0.06 and 1 - small - large > 0.25


def test_things_lie_behind_others(opened: dict[str, COCO]) -> None:
    """Boxes overlap, and some things are cut in two."""
    overlaps = []
    for coco in opened.values():
        for image_id in coco.imgs:
            boxes = [row["bbox"] for row in coco.loadAnns(coco.getAnnIds(image_id, iscrowd=False))]
            if len(boxes) > 1:
                overlap = coco_mask.iou(boxes, boxes, [0] * len(boxes))
                overlaps.append((overlap - np.eye(len(boxes))).max() > 0.05)
    assert np.mean(overlaps) > 0.4
    assert np.mean([len(row["segmentation"]) > 1 for row in annotations(opened, crowd=0)]) > 0.1


def test_some_pictures_have_a_crowd_some_have_nothing(opened: dict[str, COCO]) -> None:
    for coco in opened.values():
        per_image = Counter(row["image_id"] for row in coco.anns.values())
        assert 0.02 < (len(coco.imgs) - len(per_image)) / len(coco.imgs) < 0.2
        assert max(per_image.values()) >= 6
        crowds = [row for row in coco.anns.values() if row["iscrowd"]]
        assert 0.03 < len(crowds) / len(coco.imgs) < 0.25
        assert max(Counter(row["image_id"] for row in crowds).values()) == 1
        for row in crowds:
            assert row["id"] > 2**32
            assert 0.1 < row["area"] / np.prod(row["bbox"][2:]) < 0.9


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_the_official_score_of_the_truth_is_100(opened: dict[str, COCO], kind: str) -> None:
    """Detections in a crowd are not counted as wrong; those outside are."""
    coco = opened["val2017"]
    found = []
    for row in coco.anns.values():
        mask = coco.annToMask(row)
        if row["iscrowd"]:
            mask[:, int(row["bbox"][0] + row["bbox"][2] / 2) :] = 0  # a half
        rle = coco_mask.encode(np.asfortranarray(mask))
        common = {"image_id": row["image_id"], "category_id": row["category_id"], "score": 1 - row["iscrowd"] / 2}
        found.append(common | {"bbox": coco_mask.toBbox(rle).tolist(), "segmentation": rle})

    def average_precision(rows: list[dict[str, Any]]) -> float:
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(coco, coco.loadRes(rows), kind)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        assert (evaluation.stats > -1).all()  # there is truth of every size
        return evaluation.stats[0]

    assert average_precision(found) == pytest.approx(1)
    wrong = [row | {"category_id": 1 + list(coco.cats).index(row["category_id"])} for row in found]
    assert average_precision(wrong) < 0.5


def test_colours_tell_next_to_nothing_of_the_category(folder: Path, opened: dict[str, COCO]) -> None:
    """Logistic regression on the colours of a thing's pixels gets 12 %; chance is 10 %."""
    seen, names = {}, {}
    for part, coco in opened.items():
        rows = [row for row in coco.anns.values() if not row["iscrowd"]]
        names[part] = [coco.cats[row["category_id"]]["name"] for row in rows]
        seen[part] = np.stack(
            [
                colour_shares(pixels(folder, part, coco, row["image_id"])[coco.annToMask(row).astype(bool)])
                for row in rows
            ]
        )
    found = logistic(seen["train2017"], names["train2017"], seen["val2017"], names["val2017"])
    assert found < 0.16


def test_a_third_of_the_size_is_the_size_of_other_pictures(tmp_path: Path) -> None:
    instances.write(tmp_path, dict.fromkeys(instances.PARTS, 2), seed=0, image_size=40, progress=None)
    coco = open_coco(tmp_path / "annotations" / "instances_train2017.json")
    assert all(max(image["width"], image["height"]) == 120 for image in coco.imgs.values())
    jumble = sample_jumble(generator(0, "coco/train2017", 0), size=120)
    again = pixels(tmp_path, "train2017", coco, instances.FIRST_IMAGE)
    assert np.abs(draw(jumble.scene, size=120).astype(int) - again).mean() < 12  # fine patterns lose colour in JPEG
