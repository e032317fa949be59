from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmseg.evaluation.metrics.iou_metric import IoUMetric

from tasks.bootstrap import Measurement
from tasks.segmentation.metrics import count, measure

NAMES = ("wall", "sky", "tree", "road", "lamp", "boat", "flag")
CLASSES = len(NAMES)


def maps(images: int, *, seed: int = 0, none: bool = False) -> list[tuple[np.ndarray, np.ndarray]]:
    """(prediction, label) pairs of other sizes that agree on two pixels in three.

    Boats are predicted but never there, lamps there but never predicted, flags neither. `none`: predictions may be 0.
    """
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(images):
        shape = tuple(rng.integers(5, 40, size=2))
        label = rng.integers(0, 6, shape, dtype=np.uint8)
        other = rng.choice(np.array([*([0] if none else []), 1, 2, 3, 4, 6], np.uint8), shape)
        keep = (rng.random(shape) < 2 / 3) & (label != 5) & ((label != 0) | none)
        pairs.append((np.where(keep, label, other), label))
    return pairs


def measured(pairs: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, Measurement]:
    counts = np.stack([count(prediction, label, classes=CLASSES) for prediction, label in pairs])
    return {measurement.of or measurement.metric: measurement for measurement in measure(counts, NAMES)}


def mmseg_areas(prediction: np.ndarray, label: np.ndarray) -> list[torch.Tensor]:
    """Intersection, union, predicted and labelled pixels of each class, from MMSegmentation."""
    ours = [torch.from_numpy(ids.astype(np.int64)) - 1 for ids in (prediction, label)]
    ours[1][ours[1] < 0] = 255
    return IoUMetric.intersect_and_union(*ours, num_classes=CLASSES, ignore_index=255)


@pytest.mark.parametrize("none", [False, True])
def test_counts_are_mmsegs(none: bool) -> None:
    for prediction, label in maps(20, none=none):
        right, union, predicted, labelled = (area.numpy() for area in mmseg_areas(prediction, label))
        found = count(prediction, label, classes=CLASSES)
        assert found.dtype == np.int64
        assert (found == np.stack([right, predicted, labelled])).all()
        assert (found[1] + found[2] - found[0] == union).all()


def test_metrics_are_mmsegs() -> None:
    pairs = maps(20)
    areas = [sum(area) for area in zip(*(mmseg_areas(*pair) for pair in pairs), strict=True)]
    expected = IoUMetric.total_area_to_metrics(*areas, metrics=["mIoU"])
    found = measured(pairs)
    assert found["mIoU"].value == pytest.approx(100 * np.nanmean(expected["IoU"]), rel=1e-6)
    assert found["mAcc"].value == pytest.approx(100 * np.nanmean(expected["Acc"]), rel=1e-6)
    assert found["aAcc"].value == pytest.approx(100 * expected["aAcc"], rel=1e-6)
    for name, iou in zip(NAMES, expected["IoU"], strict=True):
        assert found[name].metric == "IoU"
        assert found[name].value == pytest.approx(100 * iou, rel=1e-6, nan_ok=True)
    assert "IoU" not in found  # each of them says of which class
    assert (found["boat"].value, found["lamp"].value) == (0, 0)
    assert np.isnan(found["flag"].value)
    assert "in no label map and in no prediction" in found["flag"].unavailable
    assert not found["boat"].unavailable


def test_metrics_are_the_official_scripts() -> None:
    """demoEvaluation.m and evaluationCode/utils_eval.py, class by class in plain loops."""
    pairs = maps(20, none=True)
    intersection, union = np.zeros(CLASSES), np.zeros(CLASSES)
    correct = labelled = 0
    for prediction, label in pairs:
        prediction = prediction * (label > 0)
        for number in range(CLASSES):
            of_class = number + 1
            both = (prediction == of_class) & (label == of_class)
            intersection[number] += both.sum()
            union[number] += ((prediction == of_class) | (label == of_class)).sum()
        correct += ((prediction == label) & (label > 0)).sum()
        labelled += (label > 0).sum()
    found = measured(pairs)
    official = 100 * np.mean(intersection / (np.spacing(1) + union))
    assert found["mIoU_all_classes"].value == pytest.approx(official, rel=1e-12)
    assert found["mIoU_all_classes"].value == pytest.approx(found["mIoU"].value * 6 / 7, rel=1e-12)
    assert found["aAcc"].value == pytest.approx(100 * correct / labelled, rel=1e-12)


def test_the_published_example(truth: Path) -> None:
    case = next(c for c in json.loads((truth / "manifest.json").read_text())["cases"] if c["id"] == "mean_iou_example")
    content = json.loads((truth / case["file"]).read_text())
    # Its classes start at 0 and its 255 is not judged.
    arrays = {
        name: [np.array(ids).astype(np.uint8) + np.uint8(1) for ids in content[name]]
        for name in ("predicted", "ground_truth")
    }
    pairs = zip(arrays["predicted"], arrays["ground_truth"], strict=True)
    counts = np.stack([count(*pair, classes=content["num_labels"]) for pair in pairs])
    found = measure(counts, [str(number) for number in range(content["num_labels"])])
    values = {measurement.metric: measurement.value / 100 for measurement in found if not measurement.of}
    names = {"mean_iou": "mIoU", "mean_accuracy": "mAcc", "overall_accuracy": "aAcc"}
    for name, printed in case["expected"].items():
        assert f"{values[names[name]]:.{len(printed.partition('.')[2])}f}" == printed, name
    ious = [measurement.value / 100 for measurement in found if measurement.of]
    assert ious == pytest.approx(content["expected"]["per_category_iou"])


def test_what_the_label_map_leaves_out_is_not_judged_and_no_class_is_wrong() -> None:
    label = np.array([[0, 0, 1, 2]], np.uint8)
    found = count(np.array([[1, 2, 1, 0]], np.uint8), label, classes=2)
    assert found.tolist() == [[1, 0], [1, 0], [1, 1]]


def test_as_many_classes_as_eight_bits_hold() -> None:
    ids = np.arange(256, dtype=np.uint8)[None]
    assert (count(ids, ids, classes=255) == 1).all()
    found = count(ids, ids[:, ::-1], classes=255)
    assert found[0].sum() == 0
    assert found[1].tolist() == [1] * 254 + [0]  # the last one falls on the pixel without a label
    assert found[2].tolist() == [1] * 255


def test_a_weight_is_how_often_an_image_counts() -> None:
    pairs = maps(6)
    weights = np.array([0, 3, 1, 0, 2, 1.0])
    repeated = [pair for pair, times in zip(pairs, weights, strict=True) for _ in range(int(times))]
    once, again = measured(pairs), measured(repeated)
    for name in ("mIoU", "mIoU_all_classes", "mAcc", "aAcc", "wall"):
        assert once[name].at(weights) == pytest.approx(again[name].value)
        assert once[name].at(weights) != pytest.approx(once[name].value)
    assert once["mIoU"].samples == once["mIoU"].units == once["sky"].samples == 6
    # Asked again in another order, the sums are still those of the weights given.
    assert once["sky"].at(np.ones(6)) == pytest.approx(once["sky"].value)
    assert once["sky"].at(weights) == pytest.approx(again["sky"].value)


def test_intervals_hold_the_value_and_share_their_draws() -> None:
    found = measured(maps(40))
    for measurement in found.values():
        if not measurement.unavailable:
            low, high = measurement.interval(seed=1, resamples=200)
            assert low <= measurement.value <= high
    low, high = found["mIoU"].interval(seed=1, resamples=200)
    assert 0 < high - low < 10
    assert found["mIoU"].interval(seed=1, resamples=200) == measured(maps(40))["mIoU"].interval(seed=1, resamples=200)


def test_images_without_any_label_have_no_score() -> None:
    nothing = np.zeros((3, 4), np.uint8)
    found = measured([(nothing + np.uint8(1), nothing)])
    assert np.isnan([found[name].value for name in ("mIoU", "mAcc", "aAcc")]).all()
    assert found["mIoU_all_classes"].value == 0
