"""The outlines of the toy world, as signed distance functions.

A distance function takes two float32 arrays `u`, `v` (of any one shape) of points in a frame where the
outline's bounding circle is the unit circle around the origin, `v` pointing down, and gives their distances
to the outline (same shape, float32; negative inside). Every outline is its own mirror image along some axis,
so a flipped picture of a rotated shape is a picture of the same shape.

Arrays only meet operations that IEEE arithmetic rounds exactly (no sine, power or product sums), which is why
a picture comes out the same on every machine.
"""

import math
from collections.abc import Callable
from functools import cache

import numpy as np

Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]
Corners = tuple[tuple[float, float], ...]


def _polygon(corners: Corners) -> Distance:
    """The distance to a simple polygon; inside is where a ray to the left crosses an odd number of edges."""
    edges = [(*start, *end) for start, end in zip(corners[-1:] + corners[:-1], corners, strict=True)]

    def distance(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        nearest = np.full(u.shape, np.inf, np.float32)
        inside = np.zeros(u.shape, bool)
        for x, y, x_end, y_end in edges:
            dx, dy = x_end - x, y_end - y
            pu, pv = u - x, v - y
            along = np.clip((pu * dx + pv * dy) / (dx * dx + dy * dy), 0, 1)
            to_u, to_v = pu - along * dx, pv - along * dy
            nearest = np.minimum(nearest, to_u * to_u + to_v * to_v)
            inside ^= ((pv >= 0) != (v - y_end >= 0)) & ((pv * dx < pu * dy) == (dy > 0))
        return np.where(inside, -1, 1).astype(np.float32) * np.sqrt(nearest)

    return distance


def _spokes(count: int, *radii: float) -> Corners:
    """`count` corners at equal angles, the first one straight up, their radii cycling through `radii`."""
    turns = [(radii[k % len(radii)], 2 * math.pi * k / count) for k in range(count)]
    return tuple((radius * math.sin(turn), -radius * math.cos(turn)) for radius, turn in turns)


def _circle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.sqrt(u * u + v * v) - 1


def _ring(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.abs(_circle(u, v) + 0.25) - 0.25


def _crescent(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    bite = np.sqrt((u - 0.5) * (u - 0.5) + v * v) - 0.8
    return np.maximum(_circle(u, v), -bite)


def _heart(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """A square of half side 0.56 on its corner, and on its upper sides two half discs of that radius."""
    u, v = np.abs(u), v - 0.208
    square = (u + np.abs(v)) * math.sqrt(0.5) - 0.56
    disc = np.sqrt((u - 0.396) * (u - 0.396) + (v + 0.396) * (v + 0.396)) - 0.56
    return np.minimum(square, disc)


def _arc(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(_circle(u, v) + 0.15) - 0.15, v)


_THIRD = ((-0.95, -0.31), (-0.31, -0.31), (-0.31, -0.95))
_CROSS = _THIRD + tuple((-x, y) for x, y in reversed(_THIRD))
_CROSS += tuple((-x, -y) for x, y in _CROSS)
_ARROW = ((0, -1), (0.85, -0.05), (0.3, -0.05), (0.3, 0.95), (-0.3, 0.95), (-0.3, -0.05), (-0.85, -0.05))

SHAPES: dict[str, Distance] = {
    "arrow": _polygon(_ARROW),
    "circle": _circle,
    "crescent": _crescent,
    "cross": _polygon(_CROSS),
    "heart": _heart,
    "hexagon": _polygon(_spokes(6, 1)),
    "ring": _ring,
    "square": _polygon(_spokes(4, 1)),
    "star": _polygon(_spokes(10, 1, 0.45)),
    "triangle": _polygon(_spokes(3, 1)),
}
"""The shapes with a name, which things have and classes are called by."""

FRAGMENTS: dict[str, Distance] = {
    "arc": _arc,
    "bar": _polygon(((-0.97, -0.22), (0.97, -0.22), (0.97, 0.22), (-0.97, 0.22))),
    "wedge": _polygon(((-0.95, -0.3), (0.95, -0.3), (0.2, 0.6))),
}
"""The shapes of clutter, too small and too plain to be asked about."""


@cache
def unit_area(shape: str) -> float:
    """Area of a shape whose bounding circle has diameter 1, to about one part in a thousand."""
    steps = (np.arange(512, dtype=np.float32) + 0.5) / 256 - 1
    return float((SHAPES[shape](*np.meshgrid(steps, steps)) < 0).mean())
