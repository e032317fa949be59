"""COCO's average precision and recall, as functions of how often each image counts.

The formulas are those of pycocotools' COCOeval.accumulate and summarize (Lin et al., arXiv 1405.0312).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tasks.detection.matching import OVERLAPS, SIZES, Matches

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
RECALLS = np.linspace(0, 1, 101)  # where precision is read
FEW = (1, 10)  # detections of a class in an image for AR1 and AR10


class AveragePrecision:
    """The twelve numbers of COCO, and the AP of each class, at any weights of the images.

    An image of weight 2 counts as two images with the same detections and objects, the second right behind the first:
    the numbers are those of pycocotools on a data set with the image doubled. They can differ only where detections of
    one class in one image have the very same score: here the first of them comes first in both copies, and then the
    second; pycocotools goes through all of one copy and then through the other.
    """

    def __init__(self, matches: Matches) -> None:
        self._image = matches.image
        self._ranges = [_AreaRange(matches, area) for area in range(len(SIZES))]
        self._few = [_TopKRecall(matches, most) for most in FEW]

    def at(self, weights: np.ndarray) -> np.ndarray:
        """Float [12 + classes]: fractions in the order of `NAMES`, then each class's AP; NaN where no object counts.

        Args:
            weights: float [images].
        """
        drawn = weights[self._image]
        objects = [one.objects(weights) for one in self._ranges]
        curves = [one.curves(weights, drawn, count) for one, count in zip(self._ranges, objects, strict=True)]
        (precision, recall), *parts = curves
        return np.array(
            [
                _mean(precision),
                _mean(precision[OVERLAPS == 0.5]),
                _mean(precision[OVERLAPS == 0.75]),
                *[_mean(part.precision) for part in parts],
                *[_mean(few.recall(drawn, objects[0])) for few in self._few],
                _mean(recall),
                *[_mean(part.recall) for part in parts],
                *precision.mean(0),
            ]
        )


class _Curves(NamedTuple):
    """Mean precision over `RECALLS`, and recall: float [overlaps, classes], NaN for a class without objects."""

    precision: np.ndarray
    recall: np.ndarray


class _AreaRange:
    """Objects, and the detections that have an object or are wrong, in one range of size."""

    def __init__(self, matches: Matches, area: int) -> None:
        counts = matches.object_counts[area]
        self._object_image, self._object_label = matches.object_image[counts], matches.object_label[counts]
        self._classes = matches.classes
        self._image = matches.image[matches.sized[area]]
        self._hits = [_Hits.of(matches, area, overlap) for overlap in range(len(OVERLAPS))]

    def objects(self, weights: np.ndarray) -> np.ndarray:
        """How many objects count, float [classes]; NaN for none."""
        count = np.bincount(self._object_label, weights[self._object_image], minlength=self._classes)
        return np.where(count > 0, count, np.nan)

    def curves(self, weights: np.ndarray, drawn: np.ndarray, objects: np.ndarray) -> _Curves:
        """Precision and recall.

        Args:
            weights: of the images.
            drawn: of all detections.
            objects: of each class.
        """
        sized = _cumulated(weights[self._image])
        each = [hits.curve(drawn, sized, objects) for hits in self._hits]
        precision, recall = (np.array(values) for values in zip(*each, strict=True))
        return _Curves(precision, recall)


@dataclass(frozen=True)
class _Hits:
    """The h detections that find an object of one range of size at one overlap, class by class, by falling score.

    A detection of a size in the range is wrong unless it has an object. With one that counts it is right, whatever its
    own size; with another one it is neither. Precision falls from one right detection to the next, so it is computed
    at the right ones only.

    place: int [h], among all detections.
    bounds: int [classes + 1], where the hits of each class begin.
    sized: int [h], how many detections up to this one are of a size in the range.
    sized_before: int [classes], how many of earlier classes are.
    spared: int [s], the detections whose object makes a difference of `sign` to how many count as right or wrong.
    sign: float [s], 1 where one of a size in the range is neither, -1 where one of another size is right.
    spared_up_to: int [h], how many of these there are up to this hit.
    spared_before: int [classes], how many of earlier classes.
    """

    place: np.ndarray
    bounds: np.ndarray
    sized: np.ndarray
    sized_before: np.ndarray
    spared: np.ndarray
    sign: np.ndarray
    spared_up_to: np.ndarray
    spared_before: np.ndarray

    @classmethod
    def of(cls, matches: Matches, area: int, overlap: int) -> _Hits:
        right = matches.counts[area, overlap]
        sign = np.where(matches.matched[area, overlap], matches.sized[area].astype(float) - right, 0)
        place, spared = np.flatnonzero(right), np.flatnonzero(sign)
        sized = np.concatenate([[0], np.cumsum(matches.sized[area])])
        bounds = np.searchsorted(matches.label, np.arange(matches.classes + 1))
        return cls(
            place=place,
            bounds=np.searchsorted(place, bounds),
            sized=sized[place + 1],
            sized_before=sized[bounds[:-1]],
            spared=spared,
            sign=sign[spared],
            spared_up_to=np.searchsorted(spared, place, side="right"),
            spared_before=np.searchsorted(spared, bounds[:-1]),
        )

    def curve(self, drawn: np.ndarray, sized: np.ndarray, objects: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean precision and recall, float [classes]; NaN for a class without objects.

        Args:
            drawn: weight of every detection.
            sized: cumulated weights of those of a size in the range.
            objects: weight of the objects of each class, NaN for none.
        """
        sizes = np.diff(self.bounds)
        right = _cumulated(drawn[self.place])
        spared = _cumulated(drawn[self.spared] * self.sign)
        hits = right[1:] - np.repeat(right[self.bounds[:-1]], sizes)
        before = sized[self.sized_before] - spared[self.spared_before]
        seen = sized[self.sized] - spared[self.spared_up_to] - np.repeat(before, sizes)
        precision = hits / (seen + np.spacing(1))
        # The last recall that is reached at each hit; then the best precision of each, and of it and those beyond.
        reached = np.searchsorted(RECALLS, hits / np.repeat(objects, sizes), side="right") - 1
        cell = np.repeat(np.arange(len(objects)) * len(RECALLS), sizes) + reached
        runs = np.flatnonzero(np.diff(cell, prepend=-1))
        best = np.zeros(len(objects) * len(RECALLS))
        best[cell[runs]] = np.maximum.reduceat(precision, runs)
        best = np.maximum.accumulate(best.reshape(-1, len(RECALLS))[:, ::-1], axis=1).mean(1)
        return np.where(objects > 0, best, np.nan), np.diff(right[self.bounds]) / objects


class _TopKRecall:
    """Recall of the `most` best detections of a class in an image, of objects of all sizes."""

    def __init__(self, matches: Matches, most: int) -> None:
        hits = matches.counts[0].sum(0) * (matches.rank < most)
        self._place = np.flatnonzero(hits)
        self._hits = hits[self._place].astype(float)
        self._label = matches.label[self._place]

    def recall(self, drawn: np.ndarray, objects: np.ndarray) -> np.ndarray:
        """Mean over the overlaps, float [classes]; NaN for a class without objects."""
        found = np.bincount(self._label, drawn[self._place] * self._hits, minlength=len(objects))
        return found / (objects * len(OVERLAPS))


def _cumulated(values: np.ndarray) -> np.ndarray:
    """Sums of the first 0, 1, 2, … values."""
    sums = np.zeros(len(values) + 1)
    np.cumsum(values, out=sums[1:])
    return sums


def _mean(values: np.ndarray) -> float:
    """Mean over the classes that have objects; NaN when there are none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
