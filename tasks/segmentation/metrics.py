"""Intersection over union of semantic segmentation, from counts of pixels.

A map has one id per pixel: 0 for no class, 1 + class elsewhere. Pixels that the label map leaves at 0 are not judged,
whatever is predicted there; a prediction of 0 on a labelled pixel is wrong.

Sources: CSAILVision/sceneparsing evaluationCode/utils_eval.py (the benchmark's own mean, over all of its classes) and
mmseg/evaluation/metrics/iou_metric.py (the mean that papers print, over the classes that occur).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tasks.bootstrap import Measurement, weighted_sum

LARGEST = 255  # classes that fit into 8 bits beside 0
WHOLE = ("mIoU", "mIoU_all_classes", "mAcc", "aAcc")  # metrics over all classes
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


def measure(counts: np.ndarray, names: Sequence[str]) -> list[Measurement]:
    """mIoU, mIoU_all_classes, mAcc, aAcc, then the IoU of each class, in percent. The unit is an image.

    mIoU and mAcc are means over the classes that occur (in labels or predictions, and in labels); mIoU_all_classes
    counts a class that never occurs as 0.

    Args:
        counts: [images, 3, classes] of `count`.
        names: of the classes.
    """
    images = len(counts)
    flat = counts.reshape(images, -1).astype(float)

    def statistic(weights: np.ndarray) -> np.ndarray:
        right, predicted, labelled = weighted_sum(weights, flat).reshape(3, -1)
        union = predicted + labelled - right
        iou, accuracy = _ratios(right, union), _ratios(right, labelled)
        overall = _ratios(right.sum(keepdims=True), labelled.sum(keepdims=True))
        return 100 * np.concatenate([[_mean(iou), np.nan_to_num(iou).mean(), _mean(accuracy)], overall, iou])

    occurs = counts.any(axis=(0, 1))
    return [
        *[Measurement(name, images, images, statistic, index=index) for index, name in enumerate(WHOLE)],
        *[
            Measurement("IoU", images, images, statistic, unavailable="" if there else ABSENT, of=name, index=index)
            for index, (name, there) in enumerate(zip(names, occurs, strict=True), len(WHOLE))
        ],
    ]


def _ratios(parts: np.ndarray, wholes: np.ndarray) -> np.ndarray:
    """Elementwise ratios; NaN where there is no whole."""
    return np.divide(parts, wholes, out=np.full_like(wholes, np.nan), where=wholes > 0)


def _mean(ratios: np.ndarray) -> float:
    """Mean over the classes that occur, those whose ratio is not NaN."""
    found = ratios[~np.isnan(ratios)]
    return found.mean() if len(found) else float("nan")
