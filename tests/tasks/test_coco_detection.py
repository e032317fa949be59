from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as codes
from pycocotools.coco import COCO

import harness
import tasks
from backbones import InputError, UsageError
from harness.cli import main
from harness.predictions import PredictionWriter
from leaderboards.rows import ResultRow
from tasks.adapter import Sample, Setting
from tasks.recipe import changed
from tests.instances import CATEGORIES, edit, folder, rectangle, write
from tests.photographs import detection_folder

ADAPTER = tasks.get("coco_detection")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return folder(tmp_path / "coco")


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


def test_samples_are_images_with_their_objects(root: Path) -> None:
    val = ADAPTER.samples(root, "val")
    assert [sample.id for sample in val] == ["29", "28", "27", "26"]
    first = val[0]
    assert first.inputs["image"] == ADAPTER.source(first) == "val2017/000000000029.png"
    assert (first.inputs["width"], first.inputs["height"]) == (48, 36)
    assert first.inputs["categories"] == CATEGORIES
    assert first.annotation["width"] == 48
    assert [item["bbox"] for item in first.annotation["objects"]] == [[2, 3, 10.5, 12], [20, 8, 15, 20.25]]
    assert json.loads(json.dumps(first.annotation)) == first.annotation
    test = ADAPTER.samples(root, "test-dev")
    assert [(sample.id, sample.annotation) for sample in test] == [("40", None), ("41", None)]
    assert test[1].inputs["image"] == "test2017/000000000041.png"
    assert not {ADAPTER.source(s) for s in ADAPTER.samples(root, "train")} & {ADAPTER.source(s) for s in val}


def test_classes_are_the_categories_in_the_files_order(root: Path) -> None:
    assert ADAPTER.classes(root) == [(7, "red"), (3, "green"), (90, "blue")]
    for split in ("val", "train"):
        (root / "annotations" / f"instances_{split}2017.json").unlink()
        assert ADAPTER.classes(root) == list(CATEGORIES.items())
    (root / "annotations" / "image_info_test-dev2017.json").unlink()
    with pytest.raises(InputError, match="No COCO annotations under"):
        ADAPTER.classes(root)


@pytest.mark.parametrize("split", ["train", "test-dev"])
def test_files_with_other_categories_do_not_go_together(root: Path, split: str) -> None:
    edit(root, split, lambda whole: whole["categories"].reverse())
    with pytest.raises(InputError, match=r"has other categories than .*instances_val2017\.json"):
        ADAPTER.samples(root, split)
    assert ADAPTER.samples(root, "val")


def test_images_may_lie_in_folders_below(tmp_path: Path) -> None:
    """As Objects365's do; its annotations have boxes alone."""
    root = write(tmp_path / "objects365", "train", [(5, 20, 20)], [rectangle(1, 5, 7, (2, 2, 9, 9))])
    (root / "train2017" / "images" / "v1").mkdir(parents=True)
    (root / "train2017" / "000000000005.png").rename(root / "train2017" / "images" / "v1" / "a.png")

    def change(whole: dict) -> None:
        whole["images"][0]["file_name"] = "images/v1/a.png"
        del whole["annotations"][0]["segmentation"]

    edit(root, "train", change)
    samples = ADAPTER.samples(root, "train")
    setting = Setting(root=root, recipe=changed(ADAPTER.recipes["giant_objects365"], ["image_size=32"]))
    item = ADAPTER.train_set(samples, setting)[0]
    assert max(item["inputs"].shape[1:]) <= 32
    scores = ADAPTER.score({"5": found((2, 2, 9, 9), masks=[code(20, 20, (2, 2, 9, 9))])}, samples)
    assert next(m for m in scores if m.metric == "box_AP").value == pytest.approx(100)
    assert "no masks" in next(m for m in scores if m.metric == "mask_AP").unavailable


def test_check_tells_what_is_there_and_what_is_odd(root: Path) -> None:
    def change(whole: dict) -> None:
        whole["annotations"][0]["bbox"] = [3, 4, 0, 5]
        whole["annotations"][1]["bbox"] = [300, 4, 3, 5]
        whole["annotations"][2]["iscrowd"] = 1
        del whole["annotations"][3]

    edit(root, "train", change)
    (root / "val2017" / "000000000027.png").unlink()
    (root / "train2017" / "000000000012.png").write_bytes(b"no image")
    findings = ADAPTER.check(root, decode=False, progress=lambda items, _: items)
    told = [finding.text for finding in findings if finding.ok]
    wrong = [finding.text for finding in findings if not finding.ok]
    assert told[0] == "train: 6 images (official: 118,287), 5 objects of 3 categories"
    assert [text.split(" (")[0] for text in told[1:5]] == [
        "train: crowd annotations",
        "train: boxes without width or height",
        "train: boxes wholly outside their image",
        "train: images without objects",
    ]
    assert "val: 4 images (official: 5,000), 8 objects of 3 categories" in told
    assert told[-1] == "test-dev: 2 images (official: 20,288)"
    assert len(wrong) == 1
    assert "val: 1 of 4 images absent" in wrong[0]
    assert "000000000027.png" in wrong[0]
    decoded = ADAPTER.check(root, decode=True, progress=lambda items, _: items)
    assert any("000000000012.png is not an image" in finding.text for finding in decoded if not finding.ok)


def test_check_tells_an_absent_split(root: Path) -> None:
    (root / "annotations" / "instances_train2017.json").unlink()
    (root / "annotations" / "image_info_test-dev2017.json").unlink()
    train, *_, test = ADAPTER.check(root, decode=False, progress=lambda items, _: items)
    assert not train.ok
    assert "No COCO annotations of train" in train.text
    assert test.ok
    assert test.text.startswith("test-dev, for CodaLab 7384")


def test_images_without_an_object_to_learn_are_left_out_of_training(root: Path) -> None:
    def change(whole: dict) -> None:
        whole["annotations"][0]["bbox"] = [3, 4, 0, 5]
        whole["annotations"][2]["iscrowd"] = 1
        del whole["annotations"][3]

    setting = Setting(root=root, recipe=ADAPTER.recipes["nano"])
    assert len(ADAPTER.train_set(ADAPTER.samples(root, "train"), setting)) == 6
    edit(root, "train", change)
    samples = ADAPTER.samples(root, "train")
    items = ADAPTER.train_set(samples, setting)
    assert len(samples) == 6
    assert [items[place]["data_samples"].img_id for place in range(len(items))] == ["11", "14", "15"]
    edit(root, "train", lambda whole: whole["annotations"].clear())
    with pytest.raises(InputError, match="None of the 6 training images"):
        ADAPTER.train_set(ADAPTER.samples(root, "train"), setting)


def test_perfect_predictions_score_in_full(root: Path, tmp_path: Path) -> None:
    samples = ADAPTER.samples(root, "val")
    scores = {m.metric: m.value for m in ADAPTER.score(perfect(samples), samples) if not m.of}
    assert set(scores) == {metric.name for metric in ADAPTER.metrics}
    assert scores["box_AP"] == scores["box_AR100"] == pytest.approx(100)
    assert scores["mask_AP50"] == pytest.approx(100)
    assert [metric.name for metric in ADAPTER.metrics if metric.primary] == ["box_AP"]
    # Records as the prediction stage stores them, through the file.
    writer = PredictionWriter(tmp_path / "parts", rank=0)
    writer.append({"id": name, **record} for name, record in perfect(samples).items())
    writer.close()
    rows = by_metric(harness.score("coco_detection", tmp_path / "parts" / "0-0.jsonl", data=root))
    assert (rows["box_AP"].value, rows["box_AP"].n) == (pytest.approx(100), 4)


def test_equal_scores_go_by_rising_image_id(tmp_path: Path) -> None:
    """As in pycocotools: the right detection of image 3 comes before the wrong one of image 8, the file's first."""
    root = write(tmp_path / "coco", "val", [(8, 20, 20), (3, 20, 20)], [rectangle(1, 3, 7, (2, 2, 9, 9))])
    samples = ADAPTER.samples(root, "val")
    scores = ADAPTER.score({"8": found((2, 2, 9, 9)), "3": found((2, 2, 9, 9))}, samples)
    assert scores[0].value == pytest.approx(100)


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_published_scores(truth: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture) -> None:
    """COCO's own example results through `harness score`, to the digits that its tool printed.

    Images without a detection are not in the file.
    """
    cases = json.loads((truth / "manifest.json").read_text())["cases"]
    case = next(case for case in cases if case["id"] == f"coco_det_{kind}")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_val2017.json").symlink_to(truth / case["annotations"])
    assert main(["score", "coco_detection", str(truth / case["predictions"]), "--data", str(tmp_path), "--json"]) == 0
    rows = {row["metric"]: row for row in json.loads(capsys.readouterr().out)}
    prefix = {"bbox": "box", "segm": "mask"}[kind]
    assert len(case["expected"]) == 12
    assert rows.keys() == {f"{prefix}_{metric}" for metric in case["expected"]}
    for metric, printed in case["expected"].items():
        value = rows[f"{prefix}_{metric}"]["value"] / 100
        assert f"{value:.{len(printed.partition('.')[2])}f}" == printed, metric
    assert {row["n"] for row in rows.values()} == {100}


@pytest.mark.parametrize("masks", [False, True])
def test_results_files_are_read(root: Path, tmp_path: Path, masks: bool) -> None:
    samples = ADAPTER.samples(root, "val")
    path = tmp_path / "results.json"
    rows = entries(samples, masks=masks)
    rows[0]["score"] = 0.1  # no binary fraction: float32 would move it
    path.write_text(json.dumps(rows))
    records = ADAPTER.read_official(path)
    assert [record["id"] for record in records] == ["29", "28", "27", "26"]
    assert records[0]["scores"].tolist() == [0.1, 0.75]
    assert records[0]["labels"].tolist() == [7, 3]
    assert ("boxes" in records[0], "masks" in records[0]) == (not masks, masks)
    if not masks:
        assert records[0]["boxes"].tolist() == [[2, 3, 10.5, 12], [20, 8, 15, 20.25]]


@pytest.mark.parametrize("masks", [False, True])
def test_an_image_without_detections_is_not_in_a_results_file(root: Path, tmp_path: Path, masks: bool) -> None:
    samples = ADAPTER.samples(root, "val")
    path = tmp_path / "results.json"
    path.write_text(json.dumps(entries(samples[1:], masks=masks)))
    rows = by_metric(harness.score("coco_detection", path, data=root))
    assert rows["mask_AR100" if masks else "box_AR100"].n == 4
    if not masks:
        assert 0 < rows["box_AR100"].value < 100
    path.write_text("[]")
    rows = by_metric(harness.score("coco_detection", path, data=root))
    assert rows["box_AP"].value == rows["mask_AP"].value == 0
    # A file of ours must have every image: an absent one was not predicted.
    path = tmp_path / "ours.jsonl"
    path.write_text(
        "".join(json.dumps({"id": s.id, "scores": [], "labels": [], "masks": []}) + "\n" for s in samples[1:])
    )
    with pytest.raises(InputError, match="1 missing: 29"):
        harness.score("coco_detection", path, data=root)


def test_results_of_another_image_are_told(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    rows = entries(ADAPTER.samples(root, "val"))
    path.write_text(json.dumps([*rows, rows[0] | {"image_id": 1234}]))
    with pytest.raises(InputError, match="1 foreign: 1234"):
        harness.score("coco_detection", path, data=root)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": None}, r"entry 2 \(from 0\) has no finite number as 'score'"),
        ({"score": float("nan")}, "entry 2 .* as 'score'"),
        ({"score": "0.5"}, "entry 2 .* as 'score'"),
        ({"image_id": "29"}, "entry 2 .* has no whole number as 'image_id'"),
        ({"category_id": 1.5}, "entry 2 .* has no whole number as 'category_id'"),
        ({"bbox": [1, 2, 3]}, "entry 2 .* has no four finite numbers as 'bbox'"),
        ({"bbox": [1, 2, 3, float("inf")]}, "entry 2 .* has no four finite numbers as 'bbox'"),
        ({"bbox": "1 2 3 4"}, "entry 2 .* has no four finite numbers as 'bbox'"),
        ({"segmentation": {}}, "entry 2 .* has other parts than entry 0, which has bbox"),
    ],
)
def test_a_broken_entry_is_told(root: Path, tmp_path: Path, change: dict, message: str) -> None:
    rows = entries(ADAPTER.samples(root, "val"))
    rows[2] |= change
    path = tmp_path / "results.json"
    path.write_text(json.dumps(rows))
    with pytest.raises(InputError, match=message):
        ADAPTER.read_official(path)


@pytest.mark.parametrize("name", ["image_id", "category_id", "score", "bbox"])
def test_an_entry_without_a_field_is_told(root: Path, tmp_path: Path, name: str) -> None:
    rows = entries(ADAPTER.samples(root, "val"))
    del rows[2][name]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(rows))
    with pytest.raises(InputError, match=r"entry 2 \(from 0\) has "):
        ADAPTER.read_official(path)


@pytest.mark.parametrize(
    "segmentation", [[[1, 1, 5, 1, 5, 5]], {"counts": "abc"}, {"size": [36, 48], "counts": [1728]}]
)
def test_a_mask_that_is_no_code_is_told(root: Path, tmp_path: Path, segmentation: object) -> None:
    rows = entries(ADAPTER.samples(root, "val"), masks=True)
    rows[2]["segmentation"] = segmentation
    path = tmp_path / "results.json"
    path.write_text(json.dumps(rows))
    with pytest.raises(InputError, match=r"entry 2 \(from 0\) has no {\"size\""):
        ADAPTER.read_official(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"annotations": []}, "is not a list of"),
        ([5], r"entry 0 \(from 0\) is no JSON object"),
        ([{"image_id": 29, "category_id": 7, "score": 1}], "entry 0 .* has neither 'bbox' nor 'segmentation'"),
    ],
)
def test_what_is_no_results_file_is_told(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        ADAPTER.read_official(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record.pop("boxes"), "image 28 has masks"),
        (lambda record: (record.pop("boxes"), record.pop("masks")), "image 28 has neither"),
    ],
)
def test_records_of_different_kinds_are_told(root: Path, change: Callable, message: str) -> None:
    samples = ADAPTER.samples(root, "val")
    records = perfect(samples)
    change(records["28"])
    with pytest.raises(InputError, match=message):
        ADAPTER.score(records, samples)


@pytest.mark.parametrize(
    "change",
    [
        {"scores": np.array([0.5, np.nan])},
        {"labels": np.array([7, 8])},
        {"boxes": np.full((2, 4), np.inf)},
        {"masks": [code(48, 36, (1, 1, 2, 2)), code(36, 48, (1, 1, 2, 2))]},
    ],
)
def test_a_record_that_cannot_be_scored_is_told_with_its_image(root: Path, change: dict) -> None:
    samples = ADAPTER.samples(root, "val")
    records = perfect(samples)
    records["28"] |= change
    with pytest.raises(InputError, match="prediction of image 28"):
        ADAPTER.score(records, samples)
    test = ADAPTER.samples(root, "test-dev")
    own = {"40": found((1, 1, 2, 2)), "41": found((1, 1, 2, 2), (3, 3, 4, 4))}
    if "masks" in change:
        own["40"]["masks"], own["41"]["masks"] = [code(32, 24, (1, 1, 2, 2))], [code(32, 24, (1, 1, 2, 2))] * 2
    else:
        own["41"] |= change
    with pytest.raises(InputError, match="prediction of image 41"):
        ADAPTER.submission(own, test, split="test-dev", name="ours")


def content(file: Any) -> tuple[str, list[dict]]:
    """The name and content of what a zip file has."""
    with zipfile.ZipFile(io.BytesIO(file.content)) as archive:
        (name,) = archive.namelist()
        return name, json.loads(archive.read(name))


def test_the_servers_files(root: Path) -> None:
    samples = ADAPTER.samples(root, "test-dev")
    one = found((-3, 4.04, 8, 5), (20, 20, 40, 40), score=0.123456789)
    one["masks"] = [code(32, 24, (0, 4, 5, 5)), code(32, 24, (20, 20, 12, 4)) | {"counts": b"P`0"}]
    one["scores"][1] = 0.75
    files = ADAPTER.submission({"40": one, "41": found(masks=[])}, samples, split="test-dev", name="ours")
    assert [file.filename for file in files] == [
        "detections_test-dev2017_ours-boxes_results.zip",
        "detections_test-dev2017_ours-masks_results.zip",
    ]
    name, boxes = content(files[0])
    assert name == "detections_test-dev2017_ours-boxes_results.json"
    assert boxes == [
        {"image_id": 40, "category_id": 7, "score": 0.75, "bbox": [20, 20, 12, 4]},
        {"image_id": 40, "category_id": 7, "score": 0.123457, "bbox": [0, 4, 5, 5]},
    ]
    name, masks = content(files[1])
    assert name == "detections_test-dev2017_ours-masks_results.json"
    assert [entry["segmentation"] for entry in masks] == [
        {"size": [24, 32], "counts": "P`0"},
        one["masks"][0],
    ]
    assert masks[0].keys() == {"image_id", "category_id", "score", "segmentation"}


def test_the_official_tool_reads_the_servers_file(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    samples = ADAPTER.samples(root, "test-dev")
    (file,) = ADAPTER.submission({"40": found((1, 2, 3, 4)), "41": found()}, samples, split="test-dev", name="ours")
    (tmp_path / "results.json").write_text(json.dumps(content(file)[1]))
    images = COCO(str(root / "annotations" / "image_info_test-dev2017.json"))
    assert len(images.loadRes(str(tmp_path / "results.json")).anns) == 1


def test_a_server_counts_the_hundred_best_of_an_image(root: Path) -> None:
    samples = ADAPTER.samples(root, "test-dev")
    many = found(*[(n / 10, 1, 2, 2) for n in range(130)])
    many["scores"] = np.random.default_rng(0).permutation(130) / 130
    (file,) = ADAPTER.submission({"40": many, "41": found()}, samples, split="test-dev", name="ours")
    scores = [entry["score"] for entry in content(file)[1]]
    assert scores == pytest.approx([n / 130 for n in range(129, 29, -1)], rel=1e-5)
    (file,) = ADAPTER.submission({"40": found(), "41": found()}, samples, split="test-dev", name="ours")
    assert content(file)[1] == []


def test_submits_two_files(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    records = {"40": found((1, 2, 3, 4), masks=[code(32, 24, (1, 2, 3, 4))]), "41": found(masks=[])}
    writer = PredictionWriter(tmp_path / "parts", rank=0)
    writer.append({"id": name, **record} for name, record in records.items())
    writer.close()
    path = str(tmp_path / "parts" / "0-0.jsonl")
    call = ["submit", "coco_detection", path, "--data", str(root), "--split", "test-dev", "--name", "ours"]
    assert main([*call, "--out", str(tmp_path / "there")]) == 0
    shown = capsys.readouterr().out
    for part in ("boxes", "masks"):
        file = f"detections_test-dev2017_ours-{part}_results.zip"
        assert (tmp_path / "there" / file).is_file()
        assert file in shown.replace("\n", "")
    with pytest.raises(UsageError, match="annotations of val are public"):
        ADAPTER.submission({}, [], split="val", name="ours")


def test_real_photographs(truth: Path, tmp_path: Path) -> None:
    root = detection_folder(truth, tmp_path / "coco")
    findings = ADAPTER.check(tmp_path / "coco", decode=True, progress=lambda items, _: items)
    wrong = [finding.text for finding in findings if not finding.ok]
    assert wrong == []
    train, val = ADAPTER.samples(root, "train"), ADAPTER.samples(root, "val")
    assert (len(train), len(val), len(ADAPTER.classes(root))) == (128, 100, 80)
    setting = Setting(root=root, recipe=ADAPTER.recipes["nano"])
    assert len(ADAPTER.train_set(train, setting)) == 126
    item = ADAPTER.eval_set(val, setting)[0]
    assert max(item["inputs"].shape[1:]) == 256


def test_the_recipes_are_the_official_ones() -> None:
    base, large, giant, objects = (ADAPTER.recipes[name] for name in ("base", "large", "giant", "giant_objects365"))
    for recipe in (base, large):
        assert (recipe.lr, recipe.steps, recipe.warmup_steps, recipe.batch_size) == (1e-4, 184_375, 250, 64)
        assert [round(share * recipe.steps) for share in recipe.milestones] == [163_889, 177_546]
        assert (recipe.image_size, recipe.weight_decay, recipe.scale_jitter) == (1024, 0.1, (0.1, 2.0))
        assert (recipe.window, recipe.global_blocks, recipe.roi_batch, recipe.soft_nms) == (14, 4, 512, False)
        assert recipe.start_lr == pytest.approx(recipe.lr / 1000)
    assert (base.layer_decay, base.drop_path, large.layer_decay, large.drop_path) == (0.7, 0.1, 0.8, 0.4)
    assert (giant.lr, giant.epochs, giant.warmup_steps, giant.image_size) == (5e-5, 20, 250, 1280)
    assert (objects.lr, objects.epochs, objects.warmup_steps, objects.image_size) == (1e-4, 15, 250, 1024)
    for recipe in (giant, objects):
        assert (recipe.layer_decay, recipe.weight_decay, recipe.drop_path, recipe.batch_size) == (0.9, 0.1, 0.6, 64)
        assert (recipe.window, recipe.global_blocks, recipe.patch_size, recipe.steps) == (16, 10, 16, 0)
        assert recipe.schedule == "step"
    assert (giant.soft_nms, giant.masks, objects.masks) == (True, True, False)


def test_recipe_fields_are_set_by_name() -> None:
    recipe = changed(ADAPTER.recipes["nano"], ["scale_jitter=[0.5, 1.5]", "test_scales=[128, 256]", "soft_nms=true"])
    assert (recipe.scale_jitter, recipe.test_scales, recipe.soft_nms) == ((0.5, 1.5), (128, 256), True)
    for wrong in ("[2.0, 0.1]", "[0, 1]", "[1.0]"):
        with pytest.raises(UsageError, match="scale_jitter has a smallest and a largest scale"):
            changed(ADAPTER.recipes["nano"], [f"scale_jitter={wrong}"])
