"""Intersection over union of semantic segmentation, from counts of pixels.

A map has one id per pixel: 0 for no class, 1 + class elsewhere. Pixels that the label map leaves at 0 are not judged,
whatever is predicted there; a prediction of 0 on a labelled pixel is wrong.

Sources: CSAILVision/sceneparsing evaluationCode/utils_eval.py (the benchmark's own mean, over all of its classes) and
mmseg/evaluation/metrics/iou_metric.py (the mean that papers print, over the classes that occur).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tasks.statistics import Measurement, remembered

LARGEST = 255  # classes that fit into 8 bits beside 0
ABSENT = "The class is in no label map and in no prediction of these images, so it has no IoU."


def count(prediction: np.ndarray, label: np.ndarray, *, classes: int) -> np.ndarray:
    """Pixels of each class in one image, judged pixels only.

    Args:
        prediction: uint8 [height, width], ids from 0 to `classes`.
        label: the same, of the same shape.
        classes: at most 255.

    Returns:
        int64 [3, classes]: rightly predicted, predicted, labelled.
    """
    ids = classes + 1
    pairs = label.astype(np.uint16) * ids + prediction  # at most 256 × 256 - 1
    confusion = np.bincount(pairs.ravel(), minlength=ids * ids).reshape(ids, ids)[1:]
    return np.stack([confusion.diagonal(1), confusion.sum(0)[1:], confusion.sum(1)])


def _summed(counts: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Counts [images, 3, classes], added up with weights [images]: what all metrics are functions of.

    The sums are float64 [3, classes]: rightly predicted, predicted or labelled (union), labelled.
    """
    flat = counts.reshape(len(counts), -1).astype(float)

    def sums(weights: np.ndarray) -> np.ndarray:
        right, predicted, labelled = (weights @ flat).reshape(3, -1)
        return np.stack([right, predicted + labelled - right, labelled])

    return sums


def measure(counts: np.ndarray, names: Sequence[str]) -> list[Measurement]:
    """mIoU, mIoU_all_classes, mAcc, aAcc, then the IoU of each class, in percent. The unit is an image.

    mIoU and mAcc are means over the classes that occur (in labels or predictions, and in labels); mIoU_all_classes
    counts a class that never occurs as 0.

    Args:
        counts: [images, 3, classes] of `count`.
        names: of the classes.
    """
    images = len(counts)
    sums = remembered(_summed(counts))

    def mean_iou(weights: np.ndarray) -> float:
        right, union, _ = sums(weights)
        return _mean_ratio(right, union)

    def mean_iou_all_classes(weights: np.ndarray) -> float:
        right, union, _ = sums(weights)
        return float(100 * np.mean(np.divide(right, union, out=np.zeros_like(right), where=union > 0)))

    def mean_accuracy(weights: np.ndarray) -> float:
        right, _, labelled = sums(weights)
        return _mean_ratio(right, labelled)

    def all_accuracy(weights: np.ndarray) -> float:
        right, _, labelled = sums(weights)
        return _ratio(right.sum(), labelled.sum())

    whole = {
        "mIoU": mean_iou, "mIoU_all_classes": mean_iou_all_classes, "mAcc": mean_accuracy, "aAcc": all_accuracy,
    }  # fmt: skip
    occurs = counts.any(axis=(0, 1))
    return [
        *[Measurement(name, images, images, statistic) for name, statistic in whole.items()],
        *[_class_iou(sums, index, name, images, occurs[index]) for index, name in enumerate(names)],
    ]


def _class_iou(
    sums: Callable[[np.ndarray], np.ndarray], index: int, name: str, images: int, occurs: bool
) -> Measurement:
    def statistic(weights: np.ndarray) -> float:
        right, union, _ = sums(weights)
        return _ratio(right[index], union[index])

    return Measurement("IoU", images, images, statistic, unavailable="" if occurs else ABSENT, of=name)


def _ratio(part: float, whole: float) -> float:
    return float(100 * part / whole) if whole else float("nan")


def _mean_ratio(parts: np.ndarray, wholes: np.ndarray) -> float:
    """100 × the mean ratio, of those that have a whole."""
    occurs = wholes > 0
    return float(100 * np.mean(parts[occurs] / wholes[occurs])) if occurs.any() else float("nan")
