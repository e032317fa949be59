"""COCO's average precision and recall, as functions of how often each image counts.

The formulas are those of pycocotools' COCOeval.accumulate and summarize (Lin et al., arXiv 1405.0312).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.detection.matching import OVERLAPS, SIZES, Matches

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
RECALLS = np.linspace(0, 1, 101)  # where precision is read
FEW = (1, 10)  # detections of a class in an image for AR1 and AR10


class AveragePrecision:
    """The twelve numbers of COCO, and the AP of each class, at any weights of the images.

    An image of weight 2 counts as two images with the same detections and objects, the second right behind the first:
    the numbers are those of pycocotools on a data set with the image twice. They can differ only where detections of
    one class in one image have the very same score: here the first of them comes first in both copies, and then the
    second; pycocotools goes through all of one copy and then through the other.
    """

    def __init__(self, matches: Matches) -> None:
        self._image = matches.image
        self._objects = _Objects(matches)
        self._curves = _Curves.of(matches)
        self._few = [_TopKRecall(matches, most) for most in FEW]

    def at(self, weights: np.ndarray) -> np.ndarray:
        """Float [12 + classes]: fractions in the order of `NAMES`, then each class's AP; NaN where no object counts.

        Args:
            weights: float [images].
        """
        drawn = weights[self._image]
        objects = self._objects.count(weights)  # [areas, classes]
        (precision, *parts), (recall, *recalls) = self._curves.at(weights, drawn, objects)  # [overlaps, classes] each
        return np.array(
            [
                _mean(precision),
                _mean(precision[OVERLAPS == 0.5]),
                _mean(precision[OVERLAPS == 0.75]),
                *[_mean(part) for part in parts],
                *[_mean(few.recall(drawn, objects[0])) for few in self._few],
                _mean(recall),
                *[_mean(part) for part in recalls],
                *precision.mean(0),
            ]
        )


class _Objects:
    """The objects to be found in each range of size."""

    def __init__(self, matches: Matches) -> None:
        area, place = np.nonzero(matches.object_counts)
        self._shape = (len(SIZES), matches.classes)
        self._image = matches.object_image[place]
        self._list = area * matches.classes + matches.object_label[place]

    def count(self, weights: np.ndarray) -> np.ndarray:
        """Weight of the objects that count, float [areas, classes]; NaN for none."""
        count = np.bincount(self._list, weights[self._image], minlength=np.prod(self._shape)).reshape(self._shape)
        return np.where(count > 0, count, np.nan)


@dataclass(frozen=True)
class _Curves:
    """The h detections that find an object, in a list for each range of size, overlap and class, by falling score.

    A detection of a size in the range is wrong unless it has an object. With one that counts it is right, whatever its
    own size; with another one it is neither. Precision falls from one right detection to the next, so it is computed
    at the right ones only. All lists are gone through at once, one behind the other, and what is cumulated goes on from
    one to the next: its value where a list begins is subtracted. Sums of whole weights are exact.

    classes: how many there are.
    place: int [h], the hits among all detections.
    list: int [h], the list that each is in, of areas × overlaps × classes.
    bounds: int [lists + 1], where the hits of each list begin.
    image: int [s], images of the detections of a size in each range, one range behind the other.
    seen: int [h], how many of these there are up to the hit, it included.
    seen_before: int [lists], up to where the list begins.
    spared: int [e], the detections whose object makes a difference of `sign` to how many count as right or wrong.
    sign: float [e], 1 where one of a size in the range is neither, -1 where one of another size is right.
    spared_up_to: int [h], how many of these there are up to the hit.
    spared_before: int [lists], up to where the list begins.
    """

    classes: int
    place: np.ndarray
    list: np.ndarray
    bounds: np.ndarray
    image: np.ndarray
    seen: np.ndarray
    seen_before: np.ndarray
    spared: np.ndarray
    sign: np.ndarray
    spared_up_to: np.ndarray
    spared_before: np.ndarray

    @classmethod
    def of(cls, matches: Matches) -> _Curves:
        classes, detections = matches.classes, len(matches.image)
        sizes, overlaps = matches.counts.shape[:2]
        # A pair of a range of size and an overlap is a row of `right`, with its lists one behind the other.
        right = matches.counts.reshape(sizes * overlaps, detections)
        extra = np.where(matches.matched, matches.sized[:, None].astype(float) - matches.counts, 0)  # [a, o, n]
        extra = extra.reshape(right.shape)
        row, place = np.nonzero(right)
        spared_row, spared = np.nonzero(extra)
        first = np.searchsorted(matches.label, np.arange(classes))  # int [classes], where each class begins
        list_row, list_first = np.divmod(np.arange(len(right) * classes), classes)[0], np.tile(first, len(right))
        lists = row * classes + matches.label[place]
        # How many detections of a size in the range come before each, and those of all ranges before this one.
        before = np.concatenate([[0], np.cumsum(matches.sized)])
        order = spared_row * detections + spared
        return cls(
            classes=classes,
            place=place,
            list=lists,
            bounds=np.searchsorted(lists, np.arange(len(list_row) + 1)),
            image=np.tile(matches.image, sizes)[matches.sized.ravel()],
            seen=before[row // overlaps * detections + place + 1],
            seen_before=before[list_row // overlaps * detections + list_first],
            spared=spared,
            sign=extra[spared_row, spared],
            spared_up_to=np.searchsorted(order, row * detections + place, side="right"),
            spared_before=np.searchsorted(order, list_row * detections + list_first),
        )

    def at(self, weights: np.ndarray, drawn: np.ndarray, objects: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Precision and recall: float [areas, overlaps, classes] each; NaN for a class without objects.

        Precision is the mean over `RECALLS`.

        Args:
            weights: float [images].
            drawn: float [n], of all detections.
            objects: float [areas, classes], weight of the objects, NaN for none.
        """
        shape = (len(SIZES), len(OVERLAPS), self.classes)
        real = np.broadcast_to(objects[:, None], shape).ravel()  # [lists]
        right = _cumulated(drawn[self.place])
        seen = _cumulated(weights[self.image])
        spared = _cumulated(drawn[self.spared] * self.sign)
        hits = right[1:] - right[self.bounds[:-1]][self.list]  # [h]
        before = seen[self.seen_before] - spared[self.spared_before]
        judged = seen[self.seen] - spared[self.spared_up_to] - before[self.list]
        precision = hits / (judged + np.spacing(1))
        # The last recall that is reached at each hit; then the best precision of each, and of it and those beyond.
        reached = np.searchsorted(RECALLS, hits / real[self.list], side="right") - 1
        cell = self.list * len(RECALLS) + reached
        runs = np.flatnonzero(np.diff(cell, prepend=-1))
        best = np.zeros(len(real) * len(RECALLS))
        best[cell[runs]] = np.maximum.reduceat(precision, runs)
        best = np.maximum.accumulate(best.reshape(-1, len(RECALLS))[:, ::-1], axis=1).mean(1)
        recall = np.diff(right[self.bounds]) / real
        return np.where(real > 0, best, np.nan).reshape(shape), recall.reshape(shape)


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
