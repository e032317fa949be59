"""The files have the form of the official ones: names, fields, ids that agree, pictures where the form says."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tasks import toy
from tasks.toy.scene import COLOURS
from tasks.toy.still_life import FAMILIAR, NOVEL

pytestmark = pytest.mark.slow  # draws pictures

PARTS = ("train2014", "val2014", "test2015")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("toy")
    toy.write(root, scale=0.05, tasks=("nlvr2", "coco", "flickr30k", "nocaps"))
    return root


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def kinds(row: dict[str, Any]) -> dict[str, type]:
    return {name: type(value) for name, value in row.items()}


def assert_ids_differ(ids: Iterable[object]) -> None:
    ids = list(ids)
    assert len(set(ids)) == len(ids) > 0


@pytest.mark.parametrize("split", ["train", "dev", "test1"])
def test_nlvr2(root: Path, split: str) -> None:
    folder = root / "nlvr2"
    rows = lines(folder / "nlvr" / "nlvr2" / "data" / f"{split}.json")
    assert len(rows) == 8 * {"train": 12, "dev": 4, "test1": 4}[split]
    assert_ids_differ(row["identifier"] for row in rows)
    images = set()
    for row in rows:
        found = re.fullmatch(rf"({split}-\d+-[0-3])-[01]", row["identifier"])
        place = folder / "images" / "train" / str(row["directory"]) if split == "train" else folder / split
        images |= {place / f"{found[1]}-img{side}.png" for side in (0, 1)}
        assert row["label"] in ("True", "False")
        if split == "train":
            assert type(row["directory"]) is int
    pictures = folder / "images" / "train" if split == "train" else folder / split
    assert images == set(pictures.rglob("*.png"))
    assert len(images) == len(rows)
    with Image.open(images.pop()) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", (80, 80))


@pytest.mark.parametrize("split", ["dev", "test1"])
def test_nlvr2_has_the_fields_of_the_real_one(root: Path, truth: Path, split: str) -> None:
    real = lines(truth / "nlvr2" / f"{split}.json")[0]
    for row in lines(root / "nlvr2" / "nlvr" / "nlvr2" / "data" / f"{split}.json"):
        assert kinds(row) == kinds(real)
        assert row["identifier"].startswith(split)


@pytest.mark.parametrize("split", ["train", "dev", "test1"])
def test_nlvr2_words_and_pairs_are_true_as_often_as_false(root: Path, split: str) -> None:
    """Whatever looks at the sentence alone, or at the images alone, is right half of the time."""
    rows = lines(root / "nlvr2" / "nlvr" / "nlvr2" / "data" / f"{split}.json")
    sentences, pairs = {}, {}
    for row in rows:
        sentences.setdefault(row["sentence"], []).append(row["label"])
        pairs.setdefault(row["identifier"].rsplit("-", 1)[0], []).append(row["label"])
    for labels in (*sentences.values(), *pairs.values()):
        assert labels.count("True") == labels.count("False")
    assert {len(labels) for labels in pairs.values()} == {2}
    assert {len(labels) % 4 for labels in sentences.values()} == {0}


def test_coco_pictures(root: Path) -> None:
    folder = root / "coco"
    rows = read(folder / "dataset_coco.json")["images"]
    found = {f"{row['filepath']}/{row['filename']}" for row in rows}
    for part, count in (("train2014", 75), ("val2014", 15), ("test2015", 12)):
        pictures = names(folder / part)
        assert len(pictures) == count
        assert all(re.fullmatch(rf"COCO_{part}_\d{{12}}\.jpg", name) for name in pictures)
        if part != "test2015":
            assert {name for name in found if name.startswith(part)} == {f"{part}/{name}" for name in pictures}
    with Image.open(folder / found.pop()) as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (80, 80))


def assert_karpathy(rows: list[dict[str, Any]]) -> None:
    """Check the form that both Karpathy files share."""
    assert [row["imgid"] for row in rows] == list(range(len(rows)))
    assert_ids_differ(sentence["sentid"] for row in rows for sentence in row["sentences"])
    for row in rows:
        assert row["sentids"] == [sentence["sentid"] for sentence in row["sentences"]]
        assert {sentence["imgid"] for sentence in row["sentences"]} == {row["imgid"]}
        assert len({sentence["raw"].lower().strip(". ") for sentence in row["sentences"]}) == 5
        for sentence in row["sentences"]:
            assert sentence.keys() == {"tokens", "raw", "imgid", "sentid"}
            assert sentence["tokens"] == re.findall(r"\w+", sentence["raw"].lower())


def test_coco_karpathy_split(root: Path) -> None:
    content = read(root / "coco" / "dataset_coco.json")
    assert content.keys() == {"images", "dataset"} and content["dataset"] == "coco"
    rows = content["images"]
    assert_karpathy(rows)
    assert_ids_differ(row["cocoid"] for row in rows)
    for row in rows:
        assert row.keys() == {"filepath", "sentids", "filename", "imgid", "split", "sentences", "cocoid"}
        assert row["filename"] == f"COCO_{row['filepath']}_{row['cocoid']:012d}.jpg"
    places = Counter((row["split"], row["filepath"]) for row in rows)
    assert places == {
        ("train", "train2014"): 75, ("restval", "val2014"): 5, ("val", "val2014"): 5, ("test", "val2014"): 5,
    }  # fmt: skip


@pytest.mark.parametrize("part", ["train2014", "val2014"])
def test_coco_caption_file_says_what_the_karpathy_file_says(root: Path, truth: Path, part: str) -> None:
    content = read(root / "coco" / "annotations" / f"captions_{part}.json")
    real = read(truth / "coco_caption" / "captions_val2014_1000.json")
    assert content.keys() >= {"info", "images", "licenses", "annotations"}
    assert kinds(content["images"][0]) == kinds(real["images"][0])
    assert kinds(content["annotations"][0]) == kinds(real["annotations"][0])
    assert content["info"].keys() == real["info"].keys()
    rows = [row for row in read(root / "coco" / "dataset_coco.json")["images"] if row["filepath"] == part]
    assert [(image["id"], image["file_name"]) for image in content["images"]] == [
        (row["cocoid"], row["filename"]) for row in rows
    ]
    assert [(row["id"], row["image_id"], row["caption"]) for row in content["annotations"]] == [
        (sentence["sentid"], row["cocoid"], sentence["raw"]) for row in rows for sentence in row["sentences"]
    ]


@pytest.mark.parametrize("part", PARTS)
def test_vqa_questions(root: Path, truth: Path, part: str) -> None:
    folder = root / "coco"
    content = read(folder / "vqa" / f"v2_OpenEnded_mscoco_{part}_questions.json")
    assert (content["task_type"], content["data_type"]) == ("Open-Ended", "mscoco")
    assert content["data_subtype"] == part
    questions = content["questions"]
    real = read(truth / "vqa" / "vqav2sub_valid_questions.json")["questions"][0]
    assert_ids_differ(question["question_id"] for question in questions)
    per_image = Counter(question["image_id"] for question in questions)
    assert set(per_image.values()) == {3}
    assert {f"COCO_{part}_{image:012d}.jpg" for image in per_image} == names(folder / part)
    for question in questions:
        assert kinds(question) == {name: kind for name, kind in kinds(real).items() if name != "split"}
        assert question["question_id"] // 1000 == question["image_id"]
        assert question["question"].endswith("?")


@pytest.mark.parametrize("part", ["train2014", "val2014"])
def test_vqa_annotations(root: Path, truth: Path, part: str) -> None:
    folder = root / "coco" / "vqa"
    questions = read(folder / f"v2_OpenEnded_mscoco_{part}_questions.json")["questions"]
    content = read(folder / f"v2_mscoco_{part}_annotations.json")
    assert content["data_subtype"] == part
    annotations = content["annotations"]
    real = read(truth / "vqa" / "vqav2sub_valid_annotations.json")["annotations"][0]
    assert [(row["question_id"], row["image_id"]) for row in annotations] == [
        (row["question_id"], row["image_id"]) for row in questions
    ]
    for row in annotations:
        assert kinds(row) == {name: kind for name, kind in kinds(real).items() if name != "split"}
        assert all(kinds(answer) == kinds(real["answers"][0]) for answer in row["answers"])
        assert [answer["answer_id"] for answer in row["answers"]] == list(range(1, 11))
        (most, count), *others = Counter(answer["answer"] for answer in row["answers"]).most_common()
        assert row["multiple_choice_answer"] == most and all(other < count for _, other in others)
        expected = "yes/no" if most in ("yes", "no") else "number" if most.isdigit() else "other"
        assert row["answer_type"] == expected


def test_vqa_test_dev_is_a_part_of_test(root: Path) -> None:
    folder = root / "coco" / "vqa"
    test, dev = (read(folder / f"v2_OpenEnded_mscoco_{part}_questions.json") for part in ("test2015", "test-dev2015"))
    assert dev["data_subtype"] == "test-dev2015"
    assert 0 < len(dev["questions"]) < len(test["questions"])
    assert all(question in test["questions"] for question in dev["questions"])
    assert names(folder) == {
        *(f"v2_OpenEnded_mscoco_{part}_questions.json" for part in (*PARTS, "test-dev2015")),
        "v2_mscoco_train2014_annotations.json",
        "v2_mscoco_val2014_annotations.json",
    }


def test_flickr30k(root: Path) -> None:
    folder = root / "flickr30k"
    content = read(folder / "dataset_flickr30k.json")
    assert content.keys() == {"images", "dataset"} and content["dataset"] == "flickr30k"
    rows = content["images"]
    assert_karpathy(rows)
    assert Counter(row["split"] for row in rows) == {"train": 50, "val": 12, "test": 12}
    for row in rows:
        assert row.keys() == {"sentids", "imgid", "sentences", "split", "filename"}
        assert re.fullmatch(r"\d+\.jpg", row["filename"])
    assert names(folder / "flickr30k-images") == {row["filename"] for row in rows}


def test_nocaps(root: Path) -> None:
    folder = root / "nocaps"
    val, test = read(folder / "nocaps_val_4500_captions.json"), read(folder / "nocaps_test_image_info.json")
    common = {"license", "open_images_id", "file_name", "coco_url", "height", "width", "date_captured", "id"}
    assert val.keys() == {"licenses", "info", "images", "annotations"}
    assert test.keys() == {"licenses", "info", "images"}
    for content, fields, part in ((val, common | {"domain"}, "val"), (test, common, "test")):
        assert_ids_differ(image["id"] for image in content["images"])
        assert names(folder / part) == {image["file_name"] for image in content["images"]}
        for image in content["images"]:
            assert image.keys() == fields
            assert image["file_name"] == image["open_images_id"] + ".jpg"
    assert Counter(image["domain"] for image in val["images"]) == {"in-domain": 4, "near-domain": 4, "out-domain": 4}
    assert_ids_differ(row["id"] for row in val["annotations"])
    assert Counter(row["image_id"] for row in val["annotations"]) == {image["id"]: 10 for image in val["images"]}
    assert len({(row["image_id"], row["caption"]) for row in val["annotations"]}) == 120


def test_nocaps_domains_are_what_coco_has_no_words_for(root: Path) -> None:
    novel = {*NOVEL, "moon"}
    known = {*FAMILIAR, "disc", "donut", "plus"}
    said = [row["sentences"] for row in read(root / "coco" / "dataset_coco.json")["images"]]
    assert not novel & {word.removesuffix("s") for five in said for sentence in five for word in sentence["tokens"]}
    content = read(root / "nocaps" / "nocaps_val_4500_captions.json")
    for image in content["images"]:
        texts = " ".join(row["caption"] for row in content["annotations"] if row["image_id"] == image["id"])
        words = set(re.findall(r"\w+", texts.lower()))
        words |= {word.removesuffix("s") for word in words} | {word.removesuffix("es") for word in words}
        assert (bool(words & known), bool(words & novel)) == {
            "in-domain": (True, False), "near-domain": (True, True), "out-domain": (False, True),
        }[image["domain"]]  # fmt: skip
        assert words & COLOURS.keys()
