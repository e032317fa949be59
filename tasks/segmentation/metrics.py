"""Intersection over union of semantic segmentation, from counts of pixels.

A map has one id per pixel: 0 for no class, 1 + class elsewhere. Pixels that the label map leaves at 0 are not judged,
whatever is predicted there; a prediction of 0 on a labelled pixel is wrong.

Sources: CSAILVision/sceneparsing evaluationCode/utils_eval.py (the benchmark's own mean, over all of its classes) and
mmseg/evaluation/metrics/iou_metric.py (the mean that papers print, over the classes that occur).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from backbones.errors import InputError
from tasks.bootstrap import Measurement, weighted_sum

MAX_CLASSES = 255  # that fit into 8 bits beside 0
SHIFTED = 2  # times as many pixels are right with 1 added where maps count from 0, at least
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


def require_ids_from_one(zeros: int, right: int, shifted: int) -> None:
    """Check that maps do not number the classes from 0, by pixels of all images.

    Args:
        zeros: predicted as 0.
        right: with a class, and predicted as it.
        shifted: with a class, and predicted as the id below it, which is not 0.

    Raises:
        InputError: 0 occurs, and the ids fit much better with 1 added.
    """
    if zeros and shifted > SHIFTED * right:
        raise InputError(
            f"The predicted maps seem to number the classes from 0: of the pixels with another id, {right:,} are right "
            f"as they are, and {shifted:,} with 1 added. A map has 1 + class in every pixel, 0 for no class: add 1 to "
            "every id, and score the maps again."
        )


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
