from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask

from backbones.errors import InputError
from tasks.bootstrap import Measurement, estimates, replicates, values
from tasks.detection.average_precision import NAMES, AveragePrecision
from tasks.detection.matching import match
from tasks.detection.metrics import checked, measure
from tests.conftest import REPOSITORY
from tests.support.detections import Detected, evaluated, loaded, scenes

TOLERANCE = 1e-12  # of a fraction
KINDS = ("box", "mask")


def coarse(seed: int) -> Detected:
    return scenes(
        images=30, detections=12, objects=7, classes=5, size=(140, 180), sides=(12, 150), seed=seed, coarse=True
    )


def measured(data: Detected, kind: str) -> list[Measurement]:
    return measure(data.predictions, data.truths, data.categories, kind=kind)


def fractions(found: list[Measurement]) -> np.ndarray:
    """Values as pycocotools has them: -1 for those without objects."""
    return np.array([-1 if one.unavailable else value / 100 for one, value in zip(found, values(found), strict=True)])


def expected(data: Detected, kind: str) -> np.ndarray:
    """The twelve numbers, then AP of each class in the order of the categories."""
    evaluation = evaluated(loaded(data, kind), kind)
    places = [evaluation.params.catIds.index(number) for number in data.categories]
    return np.array([*evaluation.stats, *evaluation.eval["precision"][:, :, places, 0, 2].mean((0, 1))])


def one_image(objects: list[dict], detections: list[tuple[list[float], float]]) -> Detected:
    """One class; objects of bbox and what else differs from the usual, detections of box and score."""
    usual = {"category_id": 1, "iscrowd": 0}
    filled = [usual | {"area": one["bbox"][2] * one["bbox"][3]} | one for one in objects]
    record = {
        "boxes": np.array([box for box, _ in detections], float).reshape(-1, 4),
        "scores": np.array([score for _, score in detections]),
        "labels": np.ones(len(detections), int),
    }
    return Detected([{"height": 200, "width": 200, "objects": filled}], [record], {1: "thing"})


# Against pycocotools


def test_the_made_up_data_have_what_can_go_wrong() -> None:
    data = coarse(0)
    objects = [one for truth in data.truths for one in truth["objects"]]
    evaluation = evaluated(loaded(data, "box"), "box")
    overlaps = np.concatenate([np.ravel(values) for values in evaluation.ious.values() if len(values)])
    assert np.isin(overlaps, evaluation.params.iouThrs).sum() > 10
    scores = [sorted(record["scores"]) for record in data.predictions]
    assert any(len(set(values)) < len(values) for values in scores)
    assert any(not truth["objects"] and len(record["scores"]) for truth, record in zip(*data[:2], strict=True))
    assert any(truth["objects"] and not len(record["scores"]) for truth, record in zip(*data[:2], strict=True))
    crowds = [one["segmentation"]["counts"] for one in objects if one["iscrowd"]]
    assert {type(counts) for counts in crowds} == {list, str}
    assert {type(one["segmentation"]) for one in objects if not one["iscrowd"]} == {list, dict}
    assert {32.0**2, 96.0**2} < {one["area"] for one in objects}
    assert list(data.categories) != sorted(data.categories)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_all_numbers_equal_those_of_pycocotools(kind: str, seed: int) -> None:
    data = coarse(seed)
    for truth in data.truths:  # a class that is detected only, and one that is neither
        truth["objects"] = [one for one in truth["objects"] if one["category_id"] != list(data.categories)[2]]
    data.categories[1000] = "nothing"
    found, right = measured(data, kind), expected(data, kind)
    assert [one.metric for one in found] == [f"{kind}_{name}" for name in NAMES] + [f"{kind}_AP"] * 6
    assert [one.of for one in found] == [""] * 12 + list(data.categories.values())
    assert {(one.samples, one.units) for one in found} == {(30, 30)}
    assert np.abs(fractions(found) - right).max() <= TOLERANCE
    assert (right[:12] > 0.02).all()
    assert (right == -1).sum() == 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_best_hundred_detections_of_a_class_in_an_image_count(kind: str) -> None:
    data = scenes(images=4, detections=260, objects=40, classes=2, size=(140, 180), sides=(12, 90), coarse=True)
    assert max(np.bincount(record["labels"]).max() for record in data.predictions if len(record["labels"])) > 150
    assert np.abs(fractions(measured(data, kind)) - expected(data, kind)).max() <= TOLERANCE


def test_boxes_of_no_or_negative_size_count_as_in_pycocotools() -> None:
    data = coarse(5)
    for record in data.predictions:
        record["boxes"][::5, 2] = 0
        record["boxes"][1::5, 2:] *= -1
    assert np.abs(fractions(measured(data, "box")) - expected(data, "box")).max() <= TOLERANCE


@pytest.mark.parametrize("kind", KINDS)
def test_published_numbers(truth: Path, kind: str) -> None:
    manifest = json.loads((truth / "manifest.json").read_text())
    name = {"box": "coco_det_bbox", "mask": "coco_det_segm"}[kind]
    case = next(case for case in manifest["cases"] if case["id"] == name)
    annotations = json.loads((truth / case["annotations"]).read_text())
    rows = json.loads((truth / case["predictions"]).read_text())
    truths = {image["id"]: image | {"objects": []} for image in sorted(annotations["images"], key=lambda i: i["id"])}
    for one in annotations["annotations"]:
        truths[one["image_id"]]["objects"].append(one)
    categories = {category["id"]: category["name"] for category in annotations["categories"]}
    by_image = {image: [row for row in rows if row["image_id"] == image] for image in truths}
    records = [
        {
            "scores": [row["score"] for row in found],
            "labels": [row["category_id"] for row in found],
            **({"boxes": [row["bbox"] for row in found]} if kind == "box" else {}),
            **({"masks": [row["segmentation"] for row in found]} if kind == "mask" else {}),
        }
        for found in by_image.values()
    ]
    predictions = [
        checked(record, truths[image], categories, image=str(image))
        for image, record in zip(truths, records, strict=True)
    ]
    found = measure(predictions, list(truths.values()), categories, kind=kind)
    printed = {name: f"{one.value / 100:.3f}" for name, one in zip(NAMES, found, strict=False)}
    assert printed == case["expected"]


# By hand


def test_a_crowd_takes_any_number_of_detections_and_none_is_wrong() -> None:
    crowd = {"bbox": [100, 100, 90, 90], "iscrowd": 1}
    in_crowd = [([110, 110, 20, 20], 0.9), ([120, 120, 20, 20], 0.9), ([130, 130, 30, 30], 0.9)]
    alone = one_image([{"bbox": [0, 0, 40, 40]}, crowd], [*in_crowd, ([0, 0, 40, 40], 0.5)])
    assert measured(alone, "box")[0].value == pytest.approx(100)
    # Without the crowd's flag they are, and only one of them could be right.
    alone.truths[0]["objects"].pop()
    assert measured(alone, "box")[0].value == pytest.approx(25)


@pytest.mark.parametrize("last", [0, 20])
def test_of_objects_that_overlap_equally_the_last_is_taken(last: int) -> None:
    objects = [{"bbox": [20 - last, 0, 40, 40], "segmentation": []}, {"bbox": [last, 0, 40, 40], "segmentation": []}]
    between = one_image(objects, [([10, 0, 40, 40], 0.9), ([0, 0, 40, 40], 0.8)])
    # The second detection fits the object at 0 only, which is free when the first has taken the one at 20.
    assert measured(between, "box")[1].value == pytest.approx(100 if last == 20 else 100 * 51 / 101)
    assert np.abs(fractions(measured(between, "box")) - expected(between, "box")).max() <= TOLERANCE


def test_double_precision_is_kept() -> None:
    close = [([0, 0, 40, 40], 0.5), ([100, 100, 40, 40], 0.5 + 1e-12)]
    behind = one_image([{"bbox": [0, 0, 40, 40]}], close)
    assert measured(behind, "box")[0].value == pytest.approx(50)
    # An overlap a hair below a half: 19.9999999999 of 40 columns.
    short = one_image([{"bbox": [0, 0, 40, 40]}], [([0, 0, 20 - 1e-10, 40], 0.5)])
    assert measured(short, "box")[1].value == 0
    exact = one_image([{"bbox": [0, 0, 40, 40]}], [([0, 0, 20, 40], 0.5)])
    assert measured(exact, "box")[1].value == pytest.approx(100)


def test_what_has_no_objects_is_unavailable() -> None:
    small = one_image([{"bbox": [0, 0, 30, 30]}], [([0, 0, 30, 30], 0.5)])
    found = {one.metric: one for one in measured(small, "box")[:12]}
    assert {name for name, one in found.items() if one.unavailable} == {"box_APm", "box_APl", "box_ARm", "box_ARl"}
    assert "large objects" in found["box_ARl"].unavailable
    assert found["box_APs"].value == pytest.approx(100)
    nothing = measured(one_image([], [([0, 0, 30, 30], 0.5)]), "box")
    assert all(one.unavailable for one in nothing)
    assert "class thing" in nothing[-1].unavailable


@pytest.mark.parametrize("kind", KINDS)
def test_no_detections_score_nothing(kind: str) -> None:
    data = coarse(0)
    nothing = {"boxes": np.empty((0, 4)), "masks": [], "scores": np.empty(0), "labels": np.empty(0, int)}
    found = measured(data._replace(predictions=[nothing] * len(data.truths)), kind)
    assert [one.value for one in found] == [0] * 17


# Weights of images


def distinct(data: Detected, seed: int) -> Detected:
    """No equal scores within an image, but many of different images."""
    rng = np.random.default_rng(seed)
    for record in data.predictions:
        record["scores"] = rng.permutation(40)[: len(record["scores"])] / 40
    return data


def doubled(data: Detected, weights: np.ndarray) -> Detected:
    """Every image as often as its weight says, copies side by side."""
    places = np.repeat(np.arange(len(weights)), weights.astype(int))
    return Detected([data.truths[n] for n in places], [data.predictions[n] for n in places], data.categories)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_a_weight_is_a_number_of_copies(kind: str, seed: int) -> None:
    data = distinct(coarse(seed), seed)
    weights = np.random.default_rng(seed).poisson(1, len(data.truths)).astype(float)
    assert weights.max() > 2
    assert (weights == 0).sum() > 5
    found = [one.at(weights) / 100 for one in measured(data, kind)]
    assert np.abs(np.array(found) - expected(doubled(data, weights), kind)).max() <= TOLERANCE


def test_equal_scores_of_copies_go_detection_by_detection() -> None:
    """The one difference that the documentation tells of: pycocotools goes image by image."""
    data = one_image([{"bbox": [0, 0, 40, 40]}], [([0, 0, 40, 40], 0.5), ([100, 100, 40, 40], 0.5)])
    twice = np.array([2.0])
    assert measured(data, "box")[0].at(twice) == pytest.approx(100)
    # Right, wrong, right, wrong: a precision of 1 up to a recall of a half, then 2/3.
    assert expected(doubled(data, twice), "box")[0] == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_a_draw_without_objects_is_no_number() -> None:
    data = coarse(0)
    weights = np.array([float(not truth["objects"]) for truth in data.truths])
    assert weights.any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert all(np.isnan(one.at(weights)) for one in measured(data, "box"))


@pytest.mark.slow
def test_intervals_hold_the_value_and_depend_on_the_seed_alone() -> None:
    found = measured(coarse(0), "box")
    first, again, other = (
        estimates(found, replicates(measured(coarse(0), "box"), seed=seed, resamples=50)) for seed in (0, 0, 1)
    )
    assert all(one.low < one.value < one.high for one in first)
    assert first == again
    assert first[0] != other[0]


def test_metrics_share_their_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    compute = AveragePrecision.at
    monkeypatch.setattr(AveragePrecision, "at", lambda self, weights: calls.append(1) or compute(self, weights))
    found = measured(coarse(0), "box")
    calls.clear()
    replicates(found, seed=0, resamples=20)
    assert len(calls) == 20


def test_matches_do_not_depend_on_how_many_are_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    data = coarse(0)
    whole = match(data.predictions, data.truths, list(data.categories), kind="box")
    monkeypatch.setattr("tasks.detection.matching._BLOCK_PAIRS", 3)
    parts = match(data.predictions, data.truths, list(data.categories), kind="box")
    assert whole.matched.any()
    assert all(np.array_equal(a, b) for a, b in zip(vars(whole).values(), vars(parts).values(), strict=True))


# Records

TRUTH = {"height": 20, "width": 30}


def record(**changes: object) -> dict:
    rle = mask.encode(np.asfortranarray(np.eye(20, 30, dtype=np.uint8)))
    rle = {"size": [20, 30], "counts": rle["counts"].decode()}
    usual = {"boxes": [[1.0, 2.0, 3.0, 4.0]] * 2, "scores": [0.5, 0.25], "labels": [1, 90], "masks": [rle, rle]}
    return {name: value for name, value in (usual | changes).items() if value is not None}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_sound_record_passes(dtype: type) -> None:
    values = {"boxes": np.array(record()["boxes"], dtype), "scores": np.array([0.1, 0.2], dtype)}
    found = checked(record(**values, labels=np.array([1, 90], np.int32)), TRUTH, {1, 90}, image="7")
    assert found["scores"].dtype == found["boxes"].dtype == np.float64
    assert found["labels"].dtype == np.int64
    assert (found["scores"] == values["scores"]).all()
    assert found["masks"] == record()["masks"]


def test_a_record_may_lack_boxes_or_masks_or_detections() -> None:
    assert set(checked(record(masks=None), TRUTH, {1, 90}, image="7")) == {"scores", "labels", "boxes"}
    assert set(checked(record(boxes=None), TRUTH, {1, 90}, image="7")) == {"scores", "labels", "masks"}
    empty = checked({"boxes": [], "scores": [], "labels": [], "masks": []}, TRUTH, {1}, image="7")
    assert empty["boxes"].shape == (0, 4)
    assert measure([empty], [TRUTH | {"objects": []}], {1: "thing"}, kind="mask")[0].unavailable


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": None}, "'scores'"),
        ({"scores": ["high", "low"]}, "no array of numbers 'scores'"),
        ({"scores": [0.5, float("nan")]}, "1 of 2 numbers in 'scores' that are not finite, such as nan"),
        ({"scores": [0.5]}, r"scores \[1\] and labels \[2\]"),
        ({"scores": [[0.5, 0.5]], "labels": [1]}, r"scores \[1, 2\] and labels \[1\]"),
        ({"labels": [1, 3]}, "label 3, which is not a category id"),
        ({"labels": [1, 1.5]}, "label 1.5, which is not a category id"),
        ({"boxes": [[1, 2, 3, float("inf")]] * 2}, "2 of 8 numbers in 'boxes'"),
        ({"boxes": [[1, 2, 3, 4, 5]] * 2}, r"2 scores and boxes \[2, 5\]"),
        ({"boxes": [[1, 2, 3, 4]] * 3}, r"2 scores and boxes \[3, 4\]"),
        ({"boxes": []}, r"2 scores and boxes \[0\]"),
        ({"boxes": [[1, 2, 3], [1, 2]]}, "no array of numbers 'boxes'"),
        ({"boxes": None, "masks": None}, "neither boxes nor masks"),
        ({"masks": []}, "2 scores and 0 masks"),
        ({"masks": 5}, "2 scores and masks 5"),
        ({"masks": ["mask", "mask"]}, "a mask 0 that is not a compressed RLE object"),
        ({"masks": [{"size": [20, 30], "counts": [600]}] * 2}, "a mask 0 that is not a compressed RLE object"),
        ({"masks": [{"size": [30, 20], "counts": "lb0"}] * 2}, r"size \[30, 20\], and the image has \[20, 30\]"),
        ({"masks": [{"size": None, "counts": "lb0"}] * 2}, "size None"),
        ({"masks": [{"counts": "lb0"}] * 2}, "a mask 0 that is not a compressed RLE object"),
        ({"masks": [{"size": [20, 30], "counts": "lb0"}] * 2}, "mask 0 has counts of 604 pixels"),
        ({"masks": [{"size": [20, 30], "counts": "o"}] * 2}, "mask 0 has broken counts"),
        ({"masks": [{"size": [20, 30], "counts": ""}] * 2}, "counts of 0 pixels, and the image has 600"),
    ],
)
def test_a_wrong_record_is_told_with_its_image(changes: dict, message: str) -> None:
    broken = record() | changes
    broken = {name: value for name, value in broken.items() if value is not None}
    with pytest.raises(InputError, match=message) as error:
        checked(broken, TRUTH, {1, 90}, image="000000000139")
    assert str(error.value).startswith("The prediction of image 000000000139")


def test_the_evaluation_library_is_imported_when_it_is_needed() -> None:
    code = "import sys, tasks.detection.metrics; sys.exit('faster_coco_eval' in sys.modules or 'cv2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=False).returncode == 0
