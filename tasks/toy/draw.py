"""Scenes to pixels: pictures, and the masks of their things."""

import math

import numpy as np

from tasks.toy.scene import BACKGROUNDS, COLOURS, GROUNDS, Scene, Texture, Thing
from tasks.toy.shapes import FRAGMENTS, SHAPES
from tasks.toy.textures import accent_share

_OUTLINES = SHAPES | FRAGMENTS
_PALETTE = {name: np.array(rgb, np.float32) for name, rgb in (COLOURS | BACKGROUNDS | GROUNDS).items()}

Window = tuple[slice, slice]


def picture_shape(scene: Scene, *, size: int) -> tuple[int, int]:
    """Rows and columns of the picture of `scene`, the more of which are `size`."""
    return round(scene.height * size), round(scene.width * size)


def draw(scene: Scene, *, size: int) -> np.ndarray:
    """The picture of `scene`: uint8 [rows, columns, 3], RGB, its longer side `size` pixels."""
    shape = picture_shape(scene, size=size)
    picture = _surface(scene.background, *_offsets((slice(0, shape[0]), slice(0, shape[1])), 0, 0, size), size)
    for thing in scene.things + scene.clutter:
        window = _window(thing, shape, size)
        x, y = _offsets(window, thing.x, thing.y, size)
        cover = _cover(thing, x, y, size)[..., None]
        picture[window] += cover * (_surface(thing.texture, x, y, size) - picture[window])
    return (picture + 0.5).astype(np.uint8)


def masks(scene: Scene, *, size: int) -> np.ndarray:
    """Visible pixels of each of `scene.things`: bool [things, rows, columns], no pixel in two of them."""
    shape = picture_shape(scene, size=size)
    seen = np.zeros((len(scene.things), *shape), bool)
    for index, thing in enumerate(scene.things + scene.clutter):
        window = _window(thing, shape, size)
        cover = _cover(thing, *_offsets(window, thing.x, thing.y, size), size) >= 0.5
        seen[(slice(None), *window)] &= ~cover
        if index < len(scene.things):
            seen[(index, *window)] = cover
    return seen


def _window(thing: Thing, shape: tuple[int, int], size: int) -> Window:
    """The rows and columns of a picture of that shape that the square around `thing` touches."""
    reach = thing.size / 2 + 1 / size

    def along(centre: float, limit: int) -> slice:
        first, last = (max(0, min(limit, math.floor((centre + side) * size))) for side in (-reach, reach))
        return slice(first, last)

    return along(thing.y, shape[0]), along(thing.x, shape[1])


def _offsets(window: Window, x: float, y: float, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Offsets of the pixel centres of `window` from `x`, `y`: float32 [1, columns] and [rows, 1], in sides."""
    rows, columns = (np.arange(part.start, part.stop, dtype=np.float32) for part in window)
    return ((columns + 0.5) / size - x)[None], ((rows + 0.5) / size - y)[:, None]


def _cover(thing: Thing, x: np.ndarray, y: np.ndarray, size: int) -> np.ndarray:
    """The share of each pixel that `thing` covers, from its centre's distance to the outline: 0..1."""
    cos, sin, radius = math.cos(thing.angle), math.sin(thing.angle), thing.size / 2
    distance = _OUTLINES[thing.shape]((x * cos + y * sin) / radius, (y * cos - x * sin) / radius)
    return np.clip(0.5 - distance * (radius * size), 0, 1)


def _surface(texture: Texture, x: np.ndarray, y: np.ndarray, size: int) -> np.ndarray:
    """The colours of `texture` at the points `x`, `y`: float32 [rows, columns, 3] in 0..255."""
    colour, accent = _PALETTE[texture.colour], _PALETTE[texture.accent]
    return colour + accent_share(texture, x, y, pixels=size)[..., None] * (accent - colour)
