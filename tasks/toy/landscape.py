"""Scenes of surfaces and things: one to three surfaces of different patterns, and things before them.

A surface is a large square or circle of which an edge runs through the picture. Surfaces and things are of the same
colours, and things have patterns too: neither colour nor pattern tells them apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tasks.toy.scene import (
    COLOURS,
    FRAMES,
    GROUNDS,
    MATERIALS,
    Scene,
    Texture,
    Thing,
    pick,
    sample_texture,
    sample_thing,
    set_off,
)
from tasks.toy.shapes import FRAGMENTS, SHAPES, unit_area

PAINTS = (*COLOURS, *GROUNDS)  # all told apart at a glance
THINGS = (1, 3)
SIDE = (0.16, 0.4)  # square root of a thing's area
SUBJECT_SIDE = 0.25  # of the foremost thing, at least
CLUTTER = (0, 3)
CLUTTER_SIZE = (0.1, 0.18)
FAR = 4.0  # diameter of the bounding circle of a surface with a straight edge
SLANT = 0.25  # radians; of straight edges, either way


@dataclass(frozen=True)
class Landscape:
    """The first `surfaces` of `scene.things` are surfaces, and so is the background; `layout` names their places."""

    scene: Scene
    surfaces: int
    layout: str


def sample_landscape(rng: np.random.Generator, *, material: str, subject: str) -> Landscape:
    """A scene with a background of that material, and foremost a thing of the shape `subject`."""
    width, height = frame = pick(rng, FRAMES)
    layout = pick(rng, LAYOUTS)
    outlines = LAYOUTS[layout](rng, width, height)
    others = [MATERIALS[index] for index in rng.permutation(len(MATERIALS)) if MATERIALS[index] != material]
    paints = [PAINTS[index] for index in rng.permutation(len(PAINTS))]
    textures = []
    for name in [material, *others[: len(outlines)]]:
        textures.append(sample_texture(rng, paints[:2], material=name))
        del paints[:2]  # of no other surface, and of no thing: every outline is to be seen
    background, *rest = textures
    surfaces = [outline(texture) for outline, texture in zip(outlines, rest, strict=True)]

    def thing(shape: str, size: float) -> Thing:
        return sample_thing(rng, shape, size=size, margin=size / 3, frame=frame, colours=paints)

    shapes = [*(pick(rng, SHAPES) for _ in range(rng.integers(*THINGS, endpoint=True))), subject]
    sides = [rng.uniform(SUBJECT_SIDE if shape is subject else SIDE[0], SIDE[1]) for shape in shapes]
    things: list[Thing] = []
    for shape, side in zip(shapes, sides, strict=True):
        things.append(set_off(rng, thing(shape, side / math.sqrt(unit_area(shape))), things, paints))
    pieces = rng.integers(*CLUTTER, endpoint=True)
    clutter = [thing(pick(rng, FRAGMENTS), rng.uniform(*CLUTTER_SIZE)) for _ in range(pieces)]
    return Landscape(Scene(background, (*surfaces, *things), tuple(clutter), width, height), len(surfaces), layout)


Outline = Callable[[Texture], Thing]


def _below(rng: np.random.Generator, width: float, height: float) -> Outline:
    """All below a line across the picture."""
    return _half(width / 2, rng.uniform(0.4, 0.75) * height, rng.uniform(-SLANT, SLANT))


def _beside(rng: np.random.Generator, width: float, height: float) -> Outline:
    """All to the right of a line down the picture."""
    return _half(rng.uniform(0.35, 0.65) * width, height / 2, rng.uniform(-SLANT, SLANT) - math.pi / 2)


def _half(x: float, y: float, turn: float) -> Outline:
    """All below a line through `x`, `y`, which is level and then turned clockwise by `turn`."""
    depth = FAR / 2 * math.sqrt(0.5)  # from the centre of the square to its edges
    x, y = x - depth * math.sin(turn), y + depth * math.cos(turn)
    return lambda texture: Thing("square", texture, FAR, x, y, angle=turn + math.pi / 4)


def _hill(rng: np.random.Generator, width: float, height: float) -> Outline:
    """A round top from below."""
    size, top = rng.uniform(0.8, 2.0), rng.uniform(0.3, 0.6) * height
    x = rng.uniform(0.2, 0.8) * width
    return lambda texture: Thing("circle", texture, size, x, top + size / 2, angle=0.0)


LAYOUTS: dict[str, Callable[[np.random.Generator, float, float], list[Outline]]] = {
    "wall": lambda *picture: [],
    "plain": lambda *picture: [_below(*picture)],
    "hill": lambda *picture: [_hill(*picture)],
    "corner": lambda *picture: [_beside(*picture), _below(*picture)],
    "hills": lambda *picture: [_hill(*picture), _hill(*picture)],
}
"""The outlines of the surfaces before the background, the hindmost first."""
