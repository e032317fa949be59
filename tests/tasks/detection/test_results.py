"""Predictions as COCO's results files: read, scored, refused, and written for its servers."""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO

import harness
import tasks
from backbones import InputError, UsageError
from harness.cli import main
from harness.predictions import PredictionWriter
from tests.support.detections import evaluated
from tests.support.instances import CATEGORIES, by_metric, code, edit, entries, folder, found, perfect

pytestmark = pytest.mark.usefixtures("few_draws")

ADAPTER = tasks.get("coco_detection")
OURS = {"split": "test-dev", "name": "ours", "labels": CATEGORIES}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return folder(tmp_path / "coco")


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


@pytest.mark.slow
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


def test_files_with_empty_segmentations_have_the_box_scores_of_the_official_tool(root: Path, tmp_path: Path) -> None:
    """SAHI's annotations and results are such files."""

    def change(whole: dict) -> None:
        for row in whole["annotations"][1:]:
            row["segmentation"] = []

    edit(root, "val", change)
    rows = entries(ADAPTER.samples(root, "val"))
    for number, row in enumerate(rows):
        x, *others = row["bbox"]
        row |= {"bbox": [x + number % 3, *others], "score": 0.9 - number / 10, "segmentation": []}
    path = tmp_path / "results.json"
    path.write_text(json.dumps(rows))
    with contextlib.redirect_stdout(io.StringIO()):
        annotations = COCO(root / "annotations" / "instances_val2017.json")
        official = evaluated((annotations, annotations.loadRes(str(path))), "box").stats
    found = by_metric(harness.score("coco_detection", path, data=root))
    assert [name for name in found if name.startswith("mask")] == []
    values = [found[f"box_{name}"].value for name in ("AP", "AP50", "AP75", "AR1", "AR10", "AR100")]
    assert values == pytest.approx([100 * official[place] for place in (0, 1, 2, 6, 7, 8)], abs=1e-9)
    assert 0 < values[0] < 100
    path.write_text(json.dumps(entries(ADAPTER.samples(root, "val"), masks=True)))
    row = by_metric(harness.score("coco_detection", path, data=root))["mask_AP"]
    assert (row.value, row.note) == (None, "the annotations have boxes but no masks of 7 of 8 objects")


def test_results_of_another_image_are_told(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    rows = entries(ADAPTER.samples(root, "val"))
    path.write_text(json.dumps([*rows, rows[0] | {"image_id": 1234}]))
    with pytest.raises(InputError, match="1 unknown: 1234"):
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
        ([5], r"entry 0 \(from 0\) is not a JSON object"),
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
        ADAPTER.score(records, samples, labels=CATEGORIES)


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
        ADAPTER.score(records, samples, labels=CATEGORIES)
    test = ADAPTER.samples(root, "test-dev")
    own = {"40": found((1, 1, 2, 2)), "41": found((1, 1, 2, 2), (3, 3, 4, 4))}
    if "masks" in change:
        own["40"]["masks"], own["41"]["masks"] = [code(32, 24, (1, 1, 2, 2))], [code(32, 24, (1, 1, 2, 2))] * 2
    else:
        own["41"] |= change
    with pytest.raises(InputError, match="prediction of image 41"):
        ADAPTER.submission(own, test, **OURS)


def content(file: Any) -> tuple[str, list[dict]]:
    """The name and content of what a zip file has."""
    with zipfile.ZipFile(io.BytesIO(file.content)) as archive:
        (name,) = archive.namelist()
        return name, json.loads(archive.read(name))


def test_the_servers_files(root: Path) -> None:
    samples = ADAPTER.samples(root, "test-dev")
    one = found((-3, 4.04, 8, 5), (20, 20, 40, 40), score=0.123456789)
    one["masks"] = [code(32, 24, (0, 4, 5, 5)), code(32, 24, (20, 20, 12, 4)) | {"counts": b"Ph0"}]
    one["scores"][1] = 0.75
    files = ADAPTER.submission({"40": one, "41": found(masks=[])}, samples, **OURS)
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
        {"size": [24, 32], "counts": "Ph0"},
        one["masks"][0],
    ]
    assert masks[0].keys() == {"image_id", "category_id", "score", "segmentation"}


def test_the_official_tool_reads_the_servers_file(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    samples = ADAPTER.samples(root, "test-dev")
    (file,) = ADAPTER.submission({"40": found((1, 2, 3, 4)), "41": found()}, samples, **OURS)
    (tmp_path / "results.json").write_text(json.dumps(content(file)[1]))
    images = COCO(str(root / "annotations" / "image_info_test-dev2017.json"))
    assert len(images.loadRes(str(tmp_path / "results.json")).anns) == 1


def test_a_server_counts_the_hundred_best_of_an_image(root: Path) -> None:
    samples = ADAPTER.samples(root, "test-dev")
    many = found(*[(n / 10, 1, 2, 2) for n in range(130)])
    many["scores"] = np.random.default_rng(0).permutation(130) / 130
    (file,) = ADAPTER.submission({"40": many, "41": found()}, samples, **OURS)
    scores = [entry["score"] for entry in content(file)[1]]
    assert scores == pytest.approx([n / 130 for n in range(129, 29, -1)], rel=1e-5)
    (file,) = ADAPTER.submission({"40": found(), "41": found()}, samples, **OURS)
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
    with pytest.raises(UsageError, match="The truth of val is public"):
        ADAPTER.submission({}, [], split="val", name="ours")
