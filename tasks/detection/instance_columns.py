"""Annotated images as columns of numbers: some 50 bytes an object, and two a coordinate of a mask.

A hundred million Python objects (COCO's polygons) take gigabytes, and every process that only looks at one writes its
reference count, so that no memory stays shared. Arrays have neither: the processes of a node map one copy
(`harness.node_samples`), and what an image needs is made when it is asked for.
"""

from __future__ import annotations

import json
import struct
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, overload

import numpy as np

SEGMENTATION = "segmentation"
NO_MASK = -1  # in place of an offset, of an object whose segmentation is empty
# How the numbers of a mask are kept: hundredths of pixels, which is what COCO's files have, in 16 or 32 bits where
# they are exact, else as they are; a run-length code as its JSON text.
_HUNDREDTHS = (np.dtype("<u2"), np.dtype("<i4"))
_EXACT = np.dtype("<f8")
_RUN_LENGTHS = 3
_HEADER = struct.Struct("<BI")  # the kind, and the number of polygons or of bytes


class AnnotatedImage(NamedTuple):
    """An image of a file, known without opening it.

    annotation: {"width", "height", "objects": [{"id", "category_id", "bbox", "area", "iscrowd", "segmentation"}]} with
    the numbers that the file has; "segmentation" is absent of objects without a mask.
    """

    id: int
    file: str
    annotation: dict[str, Any]


@dataclass(frozen=True, eq=False)
class AnnotatedImages(Sequence[AnnotatedImage]):
    """The images of a file in its order, each made when it is asked for.

    Of the images, [images] each: `ids`, `widths`, `heights`, `names` (where the file name ends in `text`), `starts` and
    `stops` (of its objects) and `taught` (whether there is an object to learn). Of the objects, [objects] each:
    `numbers` (ids), `categories`, `boxes` [objects, 4], `areas`, `crowds` and `masks` (where the code begins in
    `codes`, or `NO_MASK`; none in sets of boxes alone).
    """

    ids: np.ndarray
    widths: np.ndarray
    heights: np.ndarray
    names: np.ndarray
    starts: np.ndarray
    stops: np.ndarray
    taught: np.ndarray
    text: np.ndarray
    numbers: np.ndarray
    categories: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    crowds: np.ndarray
    masks: np.ndarray | None
    codes: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> AnnotatedImage: ...
    @overload
    def __getitem__(self, index: slice) -> AnnotatedImages: ...
    def __getitem__(self, index: int | slice) -> AnnotatedImage | AnnotatedImages:
        if isinstance(index, slice):
            return self.chosen(index)
        first, last = self.names[index]
        width, height = int(self.widths[index]), int(self.heights[index])
        objects = self._objects(slice(self.starts[index], self.stops[index]))
        name = self.text[first:last].tobytes().decode()
        return AnnotatedImage(int(self.ids[index]), name, {"width": width, "height": height, "objects": objects})

    def chosen(self, which: slice | Sequence[int] | np.ndarray) -> AnnotatedImages:
        """Some of the images; nothing is copied of their objects."""
        images = {name: getattr(self, name)[which] for name in _OF_IMAGES}
        return replace(self, **images)

    @property
    def masked(self) -> np.ndarray:
        """bool [objects of these images]: whether each has a mask."""
        has_mask = np.zeros(len(self.numbers), bool) if self.masks is None else self.masks != NO_MASK
        own = [has_mask[start:stop] for start, stop in zip(self.starts, self.stops, strict=True)]
        return np.concatenate(own) if own else np.zeros(0, bool)

    def _objects(self, which: slice) -> list[dict[str, Any]]:
        columns = (self.numbers, self.categories, self.boxes, self.areas, self.crowds)
        names = ("id", "category_id", "bbox", "area", "iscrowd")
        found = [dict(zip(names, row, strict=True)) for row in zip(*(c[which].tolist() for c in columns), strict=True)]
        if self.masks is not None:
            for item, offset in zip(found, self.masks[which].tolist(), strict=True):
                if offset != NO_MASK:
                    item[SEGMENTATION] = _decoded(self.codes, offset)
        return found


_OF_IMAGES = ("ids", "widths", "heights", "names", "starts", "stops", "taught")


class ImageRows:
    """Collects the images of a file."""

    def __init__(self) -> None:
        self.indices: dict[int, int] = {}  # by image id
        self.sizes = array("i")  # width and height in turn
        self._ids = array("q")
        self._ends = array("q", [0])
        self._text = bytearray()

    def append(self, row: Mapping[str, Any]) -> None:
        """An image with `id`, `file_name`, `width` and `height`; of two with one id the last has the objects."""
        self.indices[row["id"]] = len(self._ids)
        self._ids.append(row["id"])
        self.sizes.extend((int(row["width"]), int(row["height"])))
        self._text += str(row["file_name"]).encode()
        self._ends.append(len(self._text))

    @property
    def ids(self) -> np.ndarray:
        return _column(self._ids)

    def columns(self) -> dict[str, np.ndarray]:
        ends = _column(self._ends)
        return {
            "ids": self.ids,
            "widths": _column(self.sizes)[0::2].copy(),
            "heights": _column(self.sizes)[1::2].copy(),
            "names": np.stack([ends[:-1], ends[1:]], 1),
            "text": np.frombuffer(self._text, np.uint8),
        }


class ObjectRows:
    """Collects the objects of a file, which may come in any order."""

    def __init__(self) -> None:
        self._images = array("i")
        self._numbers = array("q")
        self._categories = array("q")
        self._boxes = array("d")
        self._areas = array("d")
        self._crowds = array("b")
        self._masks = array("q")
        self._codes = bytearray()

    def append(self, row: Mapping[str, Any], image: int) -> None:
        """Add an object of the image with that index."""
        self._images.append(image)
        self._numbers.append(row["id"])
        self._categories.append(row["category_id"])
        self._boxes.extend(row["bbox"])
        self._areas.append(row["area"])
        self._crowds.append(row["iscrowd"])
        if SEGMENTATION in row:
            self._masks.append(len(self._codes) if row[SEGMENTATION] else NO_MASK)
            self._codes += _encoded(row[SEGMENTATION]) if row[SEGMENTATION] else b""

    @property
    def numbers(self) -> np.ndarray:
        return _column(self._numbers)

    @property
    def categories(self) -> np.ndarray:
        return _column(self._categories)

    def together_with(self, images: ImageRows) -> AnnotatedImages:
        """The images with their objects, each image's in the order in which they came."""
        own = images.columns()
        of_image = _column(self._images)
        order = np.argsort(of_image, kind="stable")
        ends = np.cumsum(np.bincount(of_image, minlength=len(own["ids"])))
        boxes, crowds = _column(self._boxes).reshape(-1, 4)[order], _column(self._crowds)[order]
        sides = (own[name][of_image[order]] for name in ("widths", "heights"))
        learnt = learnable(boxes.T, crowds, *sides)
        return AnnotatedImages(
            **own,
            starts=np.concatenate([[0], ends[:-1]]).astype(np.int64),
            stops=ends,
            taught=np.bincount(of_image[order][learnt], minlength=len(own["ids"])) > 0,
            numbers=self.numbers[order],
            categories=_small(self.categories[order]),
            boxes=boxes,
            areas=_column(self._areas)[order],
            crowds=crowds,
            masks=_column(self._masks)[order] if self._masks else None,
            codes=np.frombuffer(self._codes, np.uint8),
        )


def learnable(box: Any, crowd: Any, width: Any, height: Any) -> Any:
    """Mask of the objects that can be learnt: they are not crowds, and their boxes have an area inside the image.

    Args:
        box: x, y, width and height; these and the others numbers, or arrays [objects].
    """
    x, y, w, h = box
    inside = (np.minimum(x + w, width) > np.maximum(x, 0)) & (np.minimum(y + h, height) > np.maximum(y, 0))
    return inside & np.logical_not(crowd)


def _encoded(segmentation: Mapping[str, Any] | Sequence[Sequence[float]]) -> bytes:
    """The bytes of polygons or of a run-length code."""
    if isinstance(segmentation, Mapping):
        text = json.dumps(segmentation).encode()
        return _HEADER.pack(_RUN_LENGTHS, len(text)) + text
    lengths = np.array([len(polygon) for polygon in segmentation], "<u4")
    exact = np.array([number for polygon in segmentation for number in polygon], _EXACT)
    hundredths = np.rint(exact * 100)
    kind, numbers = len(_HUNDREDTHS), exact
    if (hundredths / 100 == exact).all():
        low, high = hundredths.min(), hundredths.max()
        fitting = [k for k, t in enumerate(_HUNDREDTHS) if np.iinfo(t).min <= low and high <= np.iinfo(t).max]
        if fitting:
            kind, numbers = fitting[0], hundredths.astype(_HUNDREDTHS[fitting[0]])
    return _HEADER.pack(kind, len(lengths)) + lengths.tobytes() + numbers.tobytes()


def _decoded(codes: np.ndarray, offset: int) -> dict[str, Any] | list[list[float]]:
    kind, count = _HEADER.unpack_from(codes, offset)
    offset += _HEADER.size
    if kind == _RUN_LENGTHS:
        return json.loads(codes[offset : offset + count].tobytes())
    lengths = np.frombuffer(codes, "<u4", count, offset)
    dtype = (*_HUNDREDTHS, _EXACT)[kind]
    numbers = np.frombuffer(codes, dtype, int(lengths.sum()), offset + lengths.nbytes)
    values = (numbers if dtype is _EXACT else numbers / 100).tolist()
    return list(_cut(values, lengths.tolist()))


def _cut(values: list[float], lengths: Iterable[int]) -> Iterator[list[float]]:
    first = 0
    for length in lengths:
        yield values[first : first + length]
        first += length


def _column(values: array) -> np.ndarray:
    return np.frombuffer(values, values.typecode) if values else np.empty(0, values.typecode)


def _small(values: np.ndarray) -> np.ndarray:
    """The same whole numbers in the smallest type that holds them."""
    if not len(values):
        return values
    return values.astype(np.promote_types(np.min_scalar_type(values.min()), np.min_scalar_type(values.max())))
