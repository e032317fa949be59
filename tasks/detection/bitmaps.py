"""Bitmaps of COCO's segmentations: polygons, or run-length codes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def bitmap(segmentation: Any, height: int, width: int, factors: tuple[float, float] = (1.0, 1.0)) -> np.ndarray:
    """uint8 [height, width] of polygons, or of a run-length code, that are scaled by factors of width and height."""
    from pycocotools import mask

    if isinstance(segmentation, Mapping):
        packed = isinstance(segmentation["counts"], str)
        pixels = mask.decode(segmentation if packed else mask.frPyObjects(segmentation, *segmentation["size"]))
        return pixels[np.ix_(_nearest(len(pixels), height), _nearest(pixels.shape[1], width))]
    polygons = [(np.reshape(polygon, (-1, 2)) * factors).ravel().tolist() for polygon in segmentation]
    return mask.decode(mask.merge(mask.frPyObjects(polygons, height, width)))


def window_bitmap(
    segmentation: Any, size: tuple[int, int], factors: tuple[float, float], window: tuple[int, int, int, int]
) -> np.ndarray:
    """Draw a window of `bitmap` without drawing the rest of a large picture.

    Polygons are drawn within their own bounds, which takes the time and memory of the object and not of the picture.

    Args:
        size: height and width of the picture in pixels.
        factors: of width and height, from the file's pixels to the picture's.
        window: top, left, height and width in pixels of the picture.

    Returns:
        uint8 [height, width] of the window.
    """
    top, left, height, width = window
    drawn, (y, x) = _drawn_within_bounds(segmentation, size, factors)
    pixels = np.zeros((height, width), np.uint8)
    rows, columns = drawn.shape
    first_row, last_row = max(top, y), min(top + height, y + rows)
    first_column, last_column = max(left, x), min(left + width, x + columns)
    if first_row < last_row and first_column < last_column:
        inside = drawn[first_row - y : last_row - y, first_column - x : last_column - x]
        pixels[first_row - top : last_row - top, first_column - left : last_column - left] = inside
    return pixels


def _drawn_within_bounds(
    segmentation: Any, size: tuple[int, int], factors: tuple[float, float]
) -> tuple[np.ndarray, tuple[int, int]]:
    """A bitmap that holds all of an object, and the row and the column of its corner in the picture."""
    if isinstance(segmentation, Mapping):
        return bitmap(segmentation, *size, factors), (0, 0)
    points = [np.reshape(polygon, (-1, 2)) * factors for polygon in segmentation]
    every = np.concatenate(points)
    # Whole pixels, and never less than 0: the rasteriser rounds negative numbers in another direction.
    x, y = np.floor(every.min(axis=0)).clip(0).astype(int).tolist()
    ends = np.minimum(np.ceil(every.max(axis=0)).astype(int) + 2, (size[1], size[0]))
    columns, rows = (ends - (x, y)).tolist()
    if rows <= 0 or columns <= 0:
        return np.zeros((0, 0), np.uint8), (y, x)
    return bitmap([(each - (x, y)).ravel() for each in points], rows, columns), (y, x)


def _nearest(length: int, wanted: int) -> np.ndarray:
    """Index of the pixel under the middle of each pixel after resizing: int64 [wanted], each below `length`."""
    return (2 * np.arange(wanted) + 1) * length // (2 * wanted)
