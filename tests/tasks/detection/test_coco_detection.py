from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import harness
import tasks
from backbones import InputError, UsageError
from harness.cli import main
from harness.predictions import PredictionWriter
from tasks.adapter import TaskContext
from tasks.recipe import changed
from tests.support.instances import CATEGORIES, by_metric, code, edit, folder, found, perfect, rectangle, write
from tests.support.photographs import detection_folder

pytestmark = pytest.mark.usefixtures("few_draws")

ADAPTER = tasks.get("coco_detection")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return folder(tmp_path / "coco")


def test_samples_are_images_with_their_objects(root: Path) -> None:
    val = ADAPTER.samples(root, "val")
    assert [sample.id for sample in val] == ["29", "28", "27", "26"]
    first = val[0]
    assert first.inputs["image"] == ADAPTER.source(first) == "val2017/000000000029.png"
    assert (first.inputs["width"], first.inputs["height"]) == (48, 36)
    assert first.annotation["width"] == 48
    assert [item["bbox"] for item in first.annotation["objects"]] == [[2, 3, 10.5, 12], [20, 8, 15, 20.25]]
    assert json.loads(json.dumps(first.annotation)) == first.annotation
    test = ADAPTER.samples(root, "test-dev")
    assert [(sample.id, sample.annotation) for sample in test] == [("40", None), ("41", None)]
    assert test[1].inputs["image"] == "test2017/000000000041.png"
    assert not {ADAPTER.source(s) for s in ADAPTER.samples(root, "train")} & {ADAPTER.source(s) for s in val}


def test_classes_are_the_categories_in_the_files_order(root: Path) -> None:
    assert list(ADAPTER.labels(root).items()) == [(7, "red"), (3, "green"), (90, "blue")]
    for split in ("val", "train"):
        (root / "annotations" / f"instances_{split}2017.json").unlink()
        assert list(ADAPTER.labels(root).items()) == list(CATEGORIES.items())
    (root / "annotations" / "image_info_test-dev2017.json").unlink()
    with pytest.raises(InputError, match="No COCO annotations under"):
        ADAPTER.labels(root)


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
    recipe = changed(ADAPTER.recipes["giant_objects365"], ["image_size=32"])
    context = TaskContext(root=root, recipe=recipe, labels=CATEGORIES)
    item = ADAPTER.train_set(samples, context)[0]
    assert max(item["inputs"].shape[1:]) <= 32
    scores = ADAPTER.score({"5": found((2, 2, 9, 9), masks=[code(20, 20, (2, 2, 9, 9))])}, samples, labels=CATEGORIES)
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

    context = TaskContext(root=root, recipe=ADAPTER.recipes["nano"], labels=CATEGORIES)
    assert len(ADAPTER.train_set(ADAPTER.samples(root, "train"), context)) == 6
    edit(root, "train", change)
    samples = ADAPTER.samples(root, "train")
    items = ADAPTER.train_set(samples, context)
    assert len(samples) == 6
    assert [items[place]["data_samples"].img_id for place in range(len(items))] == ["11", "14", "15"]
    edit(root, "train", lambda whole: whole["annotations"].clear())
    with pytest.raises(InputError, match="None of the 6 training images"):
        ADAPTER.train_set(ADAPTER.samples(root, "train"), context)


def test_masks_are_not_learnt_from_objects_without_one(root: Path) -> None:
    edit(root, "train", lambda whole: whole["annotations"][3].update(segmentation=[]))
    samples = ADAPTER.samples(root, "train")
    context = TaskContext(root=root, recipe=ADAPTER.recipes["nano"], labels=CATEGORIES)
    with pytest.raises(InputError, match=r"no masks, for 1 of 6 objects.* --set masks=false"):
        ADAPTER.train_set(samples, context)
    boxes = replace(context, recipe=replace(context.recipe, masks=False))
    assert len(ADAPTER.train_set(samples, boxes)) == 6


@pytest.mark.slow
def test_perfect_predictions_score_in_full(root: Path, tmp_path: Path) -> None:
    samples = ADAPTER.samples(root, "val")
    scores = {m.metric: m.value for m in ADAPTER.score(perfect(samples), samples, labels=CATEGORIES) if not m.of}
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
    scores = ADAPTER.score({"8": found((2, 2, 9, 9)), "3": found((2, 2, 9, 9))}, samples, labels=CATEGORIES)
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


def test_real_photographs(truth: Path, tmp_path: Path) -> None:
    root = detection_folder(truth, tmp_path / "coco")
    findings = ADAPTER.check(tmp_path / "coco", decode=True, progress=lambda items, _: items)
    wrong = [finding.text for finding in findings if not finding.ok]
    assert wrong == []
    train, val = ADAPTER.samples(root, "train"), ADAPTER.samples(root, "val")
    assert (len(train), len(val), len(ADAPTER.labels(root))) == (128, 100, 80)
    context = TaskContext(root=root, recipe=ADAPTER.recipes["nano"], labels=ADAPTER.labels(root))
    assert len(ADAPTER.train_set(train, context)) == 126
    item = ADAPTER.eval_set(val, context)[0]
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
        assert (recipe.window, recipe.global_blocks, recipe.steps) == (16, 10, 0)
        assert recipe.schedule == "step"
    assert (giant.soft_nms, giant.masks, objects.masks) == (True, True, False)
    # EVA-01's soft-NMS: everything above 0 enters it, and no image has a limit of its own.
    assert (giant.score_threshold, giant.soft_nms_floor, giant.nms_iou) == (0.0, 1e-3, 0.6)
    assert (giant.detections, giant.detections_per, base.detections_per) == (100, "category", "image")
    assert (base.decays, large.decays, giant.decays) == ("detectron2", "detectron2", "all")
    assert {recipe.style for recipe in ADAPTER.recipes.values()} == {"detectron2"}
    for name, recipe in (("vitdet_base", base), ("vitdet_large", large)):
        plain = ADAPTER.recipes[name]
        assert plain.differs_from(recipe) == ["pixel_mean", "pixel_std"]
        assert len(plain.deviations) == len(recipe.deviations) - 1


def test_recipe_fields_are_set_by_name() -> None:
    recipe = changed(ADAPTER.recipes["nano"], ["scale_jitter=[0.5, 1.5]", "test_scales=[128, 256]", "soft_nms=true"])
    assert (recipe.scale_jitter, recipe.test_scales, recipe.soft_nms) == ((0.5, 1.5), (128, 256), True)
    for wrong in ("[2.0, 0.1]", "[0, 1]", "[1.0]"):
        with pytest.raises(UsageError, match="scale_jitter"):
            changed(ADAPTER.recipes["nano"], [f"scale_jitter={wrong}"])
    for wrong in ("test_size=1000", "test_scales=[1024, 1001]", "test_size=-16"):
        with pytest.raises(UsageError, match=r"multiples of 16|test_size is in \[0, 16384\]"):
            changed(ADAPTER.recipes["nano"], [wrong])
