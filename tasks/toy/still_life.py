"""Scenes to talk about: two to five things, clear of each other on a plain ground.

Things of one shape and colour are alike in everything but their place, so that "the two red stars" are always two of a
kind, and a shape and a colour together never mean two different things.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tasks.toy.scene import COLOURS, GROUNDS, Scene, Texture, Thing, pick
from tasks.toy.shapes import SHAPES

NOVEL = ("arrow", "crescent", "heart")
"""Shapes that no picture of the `coco` folder shows; NoCaps asks for them."""

FAMILIAR = tuple(shape for shape in SHAPES if shape not in NOVEL)
MATERIALS = ("solid", "striped", "dotted", "checkered")
INK = "black"  # of every pattern; a second bright colour would leave open which one the thing has, a pale one its shape
PAINTS = tuple(name for name in COLOURS if name != INK)
DIAMETERS = {"small": 0.26, "large": 0.4}
PITCHES = {"small": 0.085, "large": 0.11}
MOST_LARGE = 2  # in a scene: more hardly fit
GAP = 0.02  # between bounding circles, and to the edge
CLEAR = 0.15  # centres this far apart along an axis are clearly in order along it
TILT = 0.2  # radians, either way
SAME_KIND, SAME_COLOUR, SAME_SHAPE = 0.35, 0.2, 0.2  # how often a further thing repeats an earlier one
TRIES = 20  # at placing a thing before all are placed again


@dataclass(frozen=True)
class Palette:
    """Colours, shapes and textures that a scene may have."""

    shapes: tuple[str, ...] = tuple(SHAPES)
    colours: tuple[str, ...] = PAINTS
    grounds: tuple[str, ...] = tuple(GROUNDS)


def size_of(thing: Thing) -> str:
    """'small' or 'large'."""
    return min(DIAMETERS, key=lambda name: abs(DIAMETERS[name] - thing.size))


def sample_still_life(rng: np.random.Generator, palette: Palette) -> Scene:
    """Two to five things from `palette`, none of them covered."""
    background = _texture(rng, pick(rng, palette.grounds), "solid", "large")
    things = _unplaced(rng, palette)
    while sum(size_of(thing) == "large" for thing in things) > MOST_LARGE:
        things = _unplaced(rng, palette)
    places = _places(rng, [thing.size for thing in things])
    tilts = rng.uniform(-TILT, TILT, len(things)).tolist()
    return Scene(
        background=background,
        things=tuple(
            # A square is on its corner unless it is turned.
            replace(thing, x=x, y=y, angle=tilt + (math.pi / 4 if thing.shape == "square" else 0.0))
            for thing, (x, y), tilt in zip(things, places, tilts, strict=True)
        ),
        clutter=(),
    )


def _unplaced(rng: np.random.Generator, palette: Palette) -> list[Thing]:
    """Two to five things, the large ones first."""
    things: list[Thing] = []
    for _ in range(rng.integers(2, 6)):
        alike = things and rng.random() < SAME_KIND
        things.append(things[rng.integers(len(things))] if alike else _new_thing(rng, palette, things))
    return sorted(things, key=lambda thing: -thing.size)


def _new_thing(rng: np.random.Generator, palette: Palette, things: Sequence[Thing]) -> Thing:
    """A thing without a place, of a shape and colour that no other has; where all are taken, one of those."""
    kinds = {(thing.shape, thing.texture.colour): thing for thing in things}
    colours = [colour for _, colour in kinds] if rng.random() < SAME_COLOUR else []
    shapes = [shape for shape, _ in kinds] if not colours and rng.random() < SAME_SHAPE else []
    kind = pick(rng, shapes or palette.shapes), pick(rng, colours or palette.colours)
    if kind in kinds:
        return kinds[kind]
    size = pick(rng, DIAMETERS)
    return Thing(kind[0], _texture(rng, kind[1], pick(rng, MATERIALS), size), DIAMETERS[size], x=0, y=0, angle=0)


def _texture(rng: np.random.Generator, colour: str, material: str, size: str) -> Texture:
    return Texture(material, colour, INK, pitch=PITCHES[size], angle=rng.uniform(0, 2 * math.pi), phase=rng.random())


def _places(rng: np.random.Generator, sizes: Sequence[float]) -> list[tuple[float, float]]:
    """Centres at which things of these sizes, large ones first, neither touch each other nor the edge."""
    while True:
        places: list[tuple[float, float]] = []
        for size in sizes:
            least = size / 2 + GAP
            for x, y in rng.uniform(least, 1 - least, (TRIES, 2)).tolist():
                if all(
                    math.hypot(x - other_x, y - other_y) > (size + other) / 2 + GAP
                    for (other_x, other_y), other in zip(places, sizes, strict=False)
                ):
                    places.append((x, y))
                    break
            else:
                break
        if len(places) == len(sizes):
            return places
