"""Masks as COCO's annotations have them: polygons for one thing, run lengths for a crowd."""

from __future__ import annotations

from typing import Any

import numpy as np

Point = tuple[int, int]  # twice x, twice y: middles of pixel edges are whole numbers

_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))  # right, down, left, up: each is a right turn after the one before
TOLERANCE = 0.3  # pixels; how far a simplified outline may be from the middles of the pixel edges


def polygons(mask: np.ndarray) -> list[list[float]]:
    """The outlines of `mask` (bool [rows, columns]): [x, y, x, y, ...] in pixels for each of its parts, (0, 0) being
    the outer corner of the first pixel.

    Polygons have no holes. Where the mask has one, the outline goes there and back along a slit without width, which
    whatever fills polygons by counting crossings (pycocotools, OpenCV) decodes to the hole.
    """
    import cv2

    parts = []
    for outline in _joined(_headings(mask)):
        points = cv2.approxPolyDP(np.array(outline, np.int32)[:, None], 2 * TOLERANCE, closed=True)
        parts.append((points.ravel() / 2).tolist())
    return parts


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """Uncompressed RLE of `mask` (bool [rows, columns]): lengths of the runs of 0, 1, 0, ... down its columns."""
    pixels = mask.ravel(order="F")
    starts = np.flatnonzero(np.diff(pixels)) + 1
    counts = np.diff([0, *starts, pixels.size]).tolist()
    return {"size": list(mask.shape), "counts": [0, *counts] if pixels[0] else counts}


def box(mask: np.ndarray) -> list[int]:
    """[x, y, width, height] in pixels of the smallest box around `mask` (bool [rows, columns], not empty)."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x, y = columns[0], rows[0]
    return [int(x), int(y), int(columns[-1] + 1 - x), int(rows[-1] + 1 - y)]


def _headings(mask: np.ndarray) -> dict[Point, int]:
    """The pixel edges around `mask` by their middles, and which step goes along them with the mask to the right."""
    inside = np.pad(mask, 1)
    found = {}
    for heading in range(len(_STEPS)):
        dx, dy = _STEPS[heading - 1]  # to the left of the edge
        rows, columns = np.nonzero(inside & ~np.roll(inside, (-dy, -dx), (0, 1)))
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            found[2 * column - 1 + dx, 2 * row - 1 + dy] = heading
    return found


def _joined(headings: dict[Point, int]) -> list[list[Point]]:
    """Closed walks along all edges, one around each part of the mask, holes joined to what is around them."""
    walks: dict[Point, list[Point]] = {}  # by every point on them
    holes = []
    for start in headings:
        if start not in walks:
            walk = _walk(start, headings)
            walks |= dict.fromkeys(walk, walk)
            top = min(walk, key=lambda point: point[1])
            if headings[top] == 2:  # the mask is above its top
                holes.append(top)
    for x, y in sorted(holes, key=lambda top: top[1]):
        above = y - 2
        while (x, above) not in headings:
            above -= 2
        # Straight up is the lower edge of another hole, which is joined by now, or the outline itself.
        outer, hole = walks[x, above], walks[x, y]
        there, here = outer.index((x, above)), hole.index((x, y))
        outer[there + 1 : there + 1] = [*hole[here:], *hole[: here + 1], (x, above)]
        walks |= dict.fromkeys(hole, outer)
    return list({id(walk): walk for walk in walks.values()}.values())


def _walk(start: Point, headings: dict[Point, int]) -> list[Point]:
    """From `start` along edges back to it. Where four edges meet it turns right: pixels that touch at a corner are
    apart."""
    walk = [start]
    while True:
        x, y = walk[-1]
        heading = headings[x, y]
        for turn in (1, 0, -1):
            onward = (heading + turn) % 4
            point = (x + _STEPS[heading][0] + _STEPS[onward][0], y + _STEPS[heading][1] + _STEPS[onward][1])
            if headings.get(point) == onward:
                break
        if point == start:
            return walk
        walk.append(point)
