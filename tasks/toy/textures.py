"""The patterns of the toy world's surfaces."""

import math
from collections.abc import Callable

import numpy as np

from tasks.toy.scene import Texture

_LATTICE = np.random.default_rng(0).random((64, 64), np.float32)


def accent_share(texture: Texture, x: np.ndarray, y: np.ndarray, *, pixels: int) -> np.ndarray:
    """Share of the accent colour of `texture` at the points `x`, `y` (float32 arrays that broadcast
    together, in picture sides of `pixels` pixels): float32 in 0..1, of their joint shape."""
    cos, sin = math.cos(texture.angle), math.sin(texture.angle)
    s = (x * cos + y * sin) / texture.pitch + 64 * texture.phase
    t = (y * cos - x * sin) / texture.pitch
    return _PATTERNS[texture.material](s, t, texture.pitch * pixels)


def _solid(s: np.ndarray, t: np.ndarray, pitch: float) -> np.ndarray:
    return np.zeros_like(s)


def _striped(s: np.ndarray, t: np.ndarray, pitch: float) -> np.ndarray:
    return _edge(np.abs(_within(s)) - 0.25, pitch)


def _dotted(s: np.ndarray, t: np.ndarray, pitch: float) -> np.ndarray:
    s, t = _within(s), _within(t)
    return _edge(0.3 - np.sqrt(s * s + t * t), pitch)


def _checkered(s: np.ndarray, t: np.ndarray, pitch: float) -> np.ndarray:
    across, along = _striped(s, t, pitch), _striped(t, s, pitch)
    return across + along - 2 * across * along


def _gradient(s: np.ndarray, t: np.ndarray, pitch: float) -> np.ndarray:
    return 2 * np.abs(_within(s / 8))


def _noisy(s: np.ndarray, t: np.ndarray, pitch: float) -> np.ndarray:
    """Blotches: smooth noise between the random values of a lattice two points a repeat wide."""
    row, column = np.floor(2 * s), np.floor(2 * t)
    down, right = _ease(2 * s - row), _ease(2 * t - column)
    row, column = row.astype(np.int32) % 64, column.astype(np.int32) % 64
    below, beside = (row + 1) % 64, (column + 1) % 64
    upper = _LATTICE[row, column] + right * (_LATTICE[row, beside] - _LATTICE[row, column])
    lower = _LATTICE[below, column] + right * (_LATTICE[below, beside] - _LATTICE[below, column])
    return upper + down * (lower - upper)


def _within(repeats: np.ndarray) -> np.ndarray:
    """Position of a point within its repeat, from the repeat's middle: -0.5 to 0.5."""
    return repeats - np.floor(repeats) - 0.5


def _edge(distance: np.ndarray, pitch: float) -> np.ndarray:
    """1 where `distance` (in repeats of `pitch` pixels) is positive, 0 where negative, a pixel's blend between."""
    return np.clip(0.5 + distance * pitch, 0, 1)


def _ease(share: np.ndarray) -> np.ndarray:
    return share * share * (3 - 2 * share)


_PATTERNS: dict[str, Callable[[np.ndarray, np.ndarray, float], np.ndarray]] = {
    "solid": _solid,
    "striped": _striped,
    "dotted": _dotted,
    "checkered": _checkered,
    "gradient": _gradient,
    "noisy": _noisy,
}
