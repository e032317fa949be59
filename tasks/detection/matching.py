"""COCO's greedy matching of detections with objects, at ten overlaps and in four ranges of size.

The rules are those of pycocotools' COCOeval.evaluateImg (Lin et al., arXiv 1405.0312). Class by class and image by
image, detections choose by falling score the object that they overlap most and that no other has taken; objects that
do not count (crowds, or of another size than asked for) only where none that counts is left, and a crowd can be chosen
again and again. faster-coco-eval rasterises polygons, measures areas and overlaps; its own matches stay inside its
compiled code, where no bootstrap gets at them, so matching is done here, for many images at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

Kind = Literal["box", "mask"]

OVERLAPS = np.linspace(0.5, 0.95, 10)  # intersection over union that makes a match
SIZES = {  # smallest and largest area in pixels, both included
    "all": (0, 1e5**2),
    "small": (0, 32**2),
    "medium": (32**2, 96**2),
    "large": (96**2, 1e5**2),
}
MAX_DETECTIONS = 100  # of one class in one image; the others with lower scores are left out
_BLOCK_PAIRS = 1024  # of image and class at once, which decides the memory


@dataclass(frozen=True)
class Matches:
    """Matches of n detections, and which of m objects count. Areas are in the order of `SIZES`.

    Detections are in the order in which precision and recall go through them: class by class, by falling score,
    equal scores in the order of the images and then of the detections in their record.

    classes: how many there are, with and without detections and objects.
    image, label: int [n], indices of image and class.
    rank: int [n], rank among the detections of the class in the image, from 0.
    sized: bool [areas, n], the detection's own area is in the range.
    matched: bool [areas, overlaps, n], it has an object.
    counts: bool [areas, overlaps, n], the object that it has counts.
    object_image, object_label: int [m].
    object_counts: bool [areas, m], it is to be found: not a crowd, and its area in the range.
    """

    classes: int
    image: np.ndarray
    label: np.ndarray
    rank: np.ndarray
    sized: np.ndarray
    matched: np.ndarray
    counts: np.ndarray
    object_image: np.ndarray
    object_label: np.ndarray
    object_counts: np.ndarray


class _Outlines(NamedTuple):
    """Detections or objects, sorted by image and class. `shapes`: float64 [n, 4] boxes, or a list of n RLE dicts."""

    image: np.ndarray
    label: np.ndarray
    shapes: Any
    area: np.ndarray
    score: np.ndarray
    crowd: np.ndarray

    @property
    def group(self) -> np.ndarray:
        """A number for each image and class, rising."""
        return self.image << 32 | self.label

    def sorted(self, order: np.ndarray) -> _Outlines:
        boxes = isinstance(self.shapes, np.ndarray)
        return _Outlines(
            image=self.image[order],
            label=self.label[order],
            shapes=self.shapes[order] if boxes else [self.shapes[index] for index in order],
            area=self.area[order],
            score=self.score[order],
            crowd=self.crowd[order],
        )


class _Pair(NamedTuple):
    """One image and class with detections and objects: their first indices and their overlaps [detections, objects]."""

    detection: int
    object: int
    overlaps: np.ndarray


def match(
    predictions: Sequence[Mapping[str, Any]],
    truths: Sequence[Mapping[str, Any]],
    categories: Sequence[int],
    *,
    kind: Kind,
) -> Matches:
    """Match the detections of each image with its objects.

    Args:
        predictions: one record per image, as `metrics.checked` returns them.
        truths: one per image, as `metrics.measure` takes them. Equal scores of different images go in this
            order; pycocotools' is that of rising image ids.
        categories: the category id of each class.
        kind: what has to overlap. A detection's area is that of its box or of its mask accordingly. (pycocotools has
            the box's area for masks too where results carry both; COCO's results of masks carry none.) An object's is
            the annotated one.
    """
    found = _detections(predictions, categories, kind)
    rank = _rank(found)
    found, rank = found.sorted(np.flatnonzero(rank < MAX_DETECTIONS)), rank[rank < MAX_DETECTIONS]
    real = _objects(truths, categories, kind)
    object_counts = _sized(real.area) & ~real.crowd
    matched, counts = _matched(found, real, object_counts)
    order = np.lexsort((-found.score, found.label))
    return Matches(
        classes=len(categories),
        image=found.image[order],
        label=found.label[order],
        rank=rank[order],
        sized=_sized(found.area)[:, order],
        matched=matched[..., order],
        counts=counts[..., order],
        object_image=real.image,
        object_label=real.label,
        object_counts=object_counts,
    )


def _detections(predictions: Sequence[Mapping[str, Any]], categories: Sequence[int], kind: Kind) -> _Outlines:
    image = np.repeat(np.arange(len(predictions)), [len(record["scores"]) for record in predictions])
    label = _classes(np.concatenate([[], *[record["labels"] for record in predictions]]), categories)
    score = np.concatenate([[], *[record["scores"] for record in predictions]])
    if kind == "box":
        shapes = np.concatenate([np.empty((0, 4)), *[record["boxes"] for record in predictions]])
        area = shapes[:, 2] * shapes[:, 3]
    else:
        from faster_coco_eval.core import mask

        shapes = [rle for record in predictions for rle in record["masks"]]
        area = mask.area(shapes).astype(float) if shapes else np.empty(0)
    crowd = np.zeros(len(image), bool)
    # lexsort is stable: equal scores stay in the order of the record.
    return _Outlines(image, label, shapes, area, score, crowd).sorted(np.lexsort((-score, label, image)))


def _objects(truths: Sequence[Mapping[str, Any]], categories: Sequence[int], kind: Kind) -> _Outlines:
    image = np.repeat(np.arange(len(truths)), [len(truth["objects"]) for truth in truths])
    objects = [one for truth in truths for one in truth["objects"]]
    label = _classes(np.array([one["category_id"] for one in objects]), categories)
    area = np.array([one["area"] for one in objects], float)
    crowd = np.array([one["iscrowd"] for one in objects], bool)
    if kind == "box":
        shapes: Any = np.array([one["bbox"] for one in objects], float).reshape(-1, 4)
    else:
        from faster_coco_eval.core import mask

        shapes = [
            mask.segmToRle(one["segmentation"], truth["width"], truth["height"])
            for truth in truths
            for one in truth["objects"]
        ]
    return _Outlines(image, label, shapes, area, np.zeros(len(area)), crowd).sorted(np.lexsort((label, image)))


def _classes(ids: np.ndarray, categories: Sequence[int]) -> np.ndarray:
    """The class of each category id."""
    order = np.argsort(categories)
    return order[np.searchsorted(categories, ids, sorter=order)]


def _sized(area: np.ndarray) -> np.ndarray:
    """Areas [n] in each range: bool [areas, n]."""
    return np.array([(low <= area) & (area <= high) for low, high in SIZES.values()])


def _rank(found: _Outlines) -> np.ndarray:
    """Rank of each among those of its image and class, from 0."""
    return np.arange(len(found.group)) - np.searchsorted(found.group, found.group)


def _matched(found: _Outlines, real: _Outlines, object_counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`matched` and `counts` of `Matches`, in the order of `found`."""
    shape = (len(SIZES), len(OVERLAPS), len(found.image))
    matched, counts = np.zeros(shape, bool), np.zeros(shape, bool)
    by_width: dict[int, list[_Pair]] = {}
    for pair in _pairs(found, real):
        by_width.setdefault(1 << (pair.overlaps.shape[1] - 1).bit_length(), []).append(pair)
    for width, pairs in by_width.items():
        pairs.sort(key=lambda pair: -len(pair.overlaps))
        for first in range(0, len(pairs), _BLOCK_PAIRS):
            block = pairs[first : first + _BLOCK_PAIRS]
            has, right = _match_block(block, width, real.crowd, object_counts)
            rows = np.concatenate([pair.detection + np.arange(len(pair.overlaps)) for pair in block])
            matched[..., rows], counts[..., rows] = np.moveaxis(has, 0, -1), np.moveaxis(right, 0, -1)
    return matched, counts


def _pairs(found: _Outlines, real: _Outlines) -> Iterator[_Pair]:
    """Images and classes that have both detections and objects."""
    from faster_coco_eval.core import mask

    groups, starts, counts = np.unique(real.group, return_index=True, return_counts=True)
    bounds = (
        np.searchsorted(found.group, groups),
        np.searchsorted(found.group, groups, side="right"),
        starts,
        starts + counts,
    )
    crowds = real.crowd.astype(int).tolist()
    for begin, end, start, stop in zip(*[bound.tolist() for bound in bounds], strict=True):
        if begin < end:
            overlaps = mask.iou(found.shapes[begin:end], real.shapes[start:stop], crowds[start:stop])
            yield _Pair(begin, start, np.asarray(overlaps))


def _match_block(
    pairs: Sequence[_Pair], width: int, crowd: np.ndarray, object_counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`matched` and `counts` of the pairs' detections, one pair after the other: bool [detections, areas, overlaps].

    The first detections of all pairs choose, then the second ones, and so on.

    Args:
        pairs: those with most detections first; none with more than `width` objects.
    """
    sizes = np.array([len(pair.overlaps) for pair in pairs])  # detections of each pair
    overlaps = np.zeros((sizes.sum(), width))  # [detections, width]
    crowds = np.zeros((len(pairs), width), bool)
    counted = np.zeros((len(pairs), len(SIZES), width), bool)
    begins = np.cumsum(sizes) - sizes  # first detection of each pair
    for index, (pair, begin, size) in enumerate(zip(pairs, begins, sizes, strict=True)):
        objects = pair.overlaps.shape[1]
        overlaps[begin : begin + size, :objects] = pair.overlaps
        crowds[index, :objects] = crowd[pair.object : pair.object + objects]
        counted[index, :, :objects] = object_counts[:, pair.object : pair.object + objects]
    # Any object that counts comes before any that does not: a quarter of an overlap is exact, and below every bar.
    value = np.where(counted, 1.0, 0.25)  # [pairs, areas, width]
    free = np.ones((len(pairs), len(SIZES), len(OVERLAPS), width), bool)  # objects that no detection has yet
    matched = np.zeros((len(overlaps), len(SIZES), len(OVERLAPS)), bool)
    counts = np.zeros_like(matched)
    for step in range(sizes[0]):
        active = np.count_nonzero(sizes > step)  # pairs with that many detections, which come first
        rows = begins[:active] + step  # [active], the step's detection of each pair
        overlap = overlaps[rows][:, None, None, :]  # [active, 1, 1, width]
        fits = free[:active] & (overlap >= OVERLAPS[:, None])  # [active, areas, overlaps, width]
        wish = np.where(fits, overlap * value[:active, :, None, :], 0)
        # [active, areas, overlaps]: of equal overlaps the last, as in pycocotools
        choice = width - 1 - np.argmax(wish[..., ::-1], axis=-1)
        has = fits.any(-1)
        matched[rows] = has
        counts[rows] = has & np.take_along_axis(counted[:active], choice, axis=-1)
        pair, area, bar = np.nonzero(has)
        taken = choice[pair, area, bar]
        free[pair, area, bar, taken] = crowds[pair, taken]
    return matched, counts
