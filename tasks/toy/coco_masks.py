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
    outlines = (np.array(outline) for outline in _joined(_headings(mask)))  # [points, 2] each, in half pixels
    return [(simplified(outline, tolerance=2 * TOLERANCE) / 2).ravel().tolist() for outline in outlines]


def simplified(outline: np.ndarray, *, tolerance: float) -> np.ndarray:
    """Simplify a closed polygon by the Ramer-Douglas-Peucker algorithm: [points, 2] -> [fewer points, 2].

    The polygon is split between two points that are far apart; of each half the point that is farthest from the
    segment between its ends is kept, and splits it again, until all are nearer than `tolerance`. Then corners that
    have become flat are left out. These are the points of OpenCV's approxPolyDP.
    """
    count = len(outline)
    begin = far = 0
    for _ in range(3):  # until two points are likely to be far apart
        begin, far = far, _farthest(outline, far)
    if _square(outline[far] - outline[begin]) <= tolerance**2:
        return outline[begin : begin + 1]
    corners = []
    arcs = [(far, begin), (begin, far)]  # index of the first point and of the last
    while arcs:
        begin, end = arcs.pop()
        between = (begin + 1 + np.arange((end - begin - 1) % count)) % count
        if len(between):
            away = _from_segment(outline[between], outline[begin], outline[end])
            if away.max() > tolerance**2 * max(_square(outline[end] - outline[begin]), 1):
                split = int(between[away.argmax()])
                arcs += [(split, end), (begin, split)]
                continue
        corners.append(outline[begin])
    return _without_flat_corners(np.array(corners), tolerance=tolerance)


def _farthest(outline: np.ndarray, begin: int) -> int:
    """Index of the point of `outline` [points, 2] that is farthest from one of them, the first after it of several."""
    return (begin + int(((np.roll(outline, -begin, 0) - outline[begin]) ** 2).sum(1).argmax())) % len(outline)


def _square(vector: np.ndarray) -> int:
    return int(vector @ vector)


def _from_segment(points: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Squared distances of points from the segment between two others, times its squared length, exactly.

    All are whole numbers: points [n, 2] -> int64 [n]. A segment without length counts as one of length 1.
    """
    line = end - begin
    length = max(_square(line), 1)
    here, there = points - begin, points - end
    along = here @ line  # [n], the foot of the perpendicular: 0 at the beginning, `length` at the end
    across = line[0] * here[:, 1] - line[1] * here[:, 0]
    ends = np.where(along <= 0, (here**2).sum(1), (there**2).sum(1)) * length
    return np.where((along > 0) & (along < length), across**2, ends)


def _without_flat_corners(corners: np.ndarray, *, tolerance: float) -> np.ndarray:
    """Corners [n, 2] without those that a slanted line between their neighbours passes at 0.7 times the tolerance."""
    kept: list[np.ndarray] = []
    before, index, left = corners[-1], 0, len(corners)
    while index < len(corners) and left > 2:
        here = corners[index]
        after = corners[index + 1] if index + 1 < len(corners) else kept[0]
        line = after - before
        across = line[0] * (here - before)[1] - line[1] * (here - before)[0]  # distance times the line's length
        near = across**2 <= tolerance**2 / 2 * _square(line)
        flat = near and line.all() and (here - before) @ (after - here) >= 0
        before = after if flat else here
        kept.append(before)
        index += 2 if flat else 1
        left -= int(flat)
    return np.array([*kept, *corners[index:]])[:left]


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
    """Walk from `start` along edges back to it. Where four edges meet it turns right: pixels that touch at a corner are
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
