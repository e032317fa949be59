"""Scenes to find things in: few or many, small or large, some behind others, now and then a crowd."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from tasks.toy.draw import masks
from tasks.toy.scene import BACKGROUNDS, COLOURS, FRAMES, Scene, Thing, pick, sample_texture, sample_thing, set_off
from tasks.toy.shapes import FRAGMENTS, SHAPES, unit_area

EMPTY = 0.08  # how often nothing is there but clutter
THINGS = (1, 6)
SIDE = (0.08, 0.6)  # square root of a thing's area, as likely below as above its geometric mean
CROWDED = 0.12  # how often a crowd is in front of the things
CROWD = (10, 24)
CROWD_SIDE = (0.045, 0.07)
CROWD_RADIUS = (0.11, 0.17)
CLUTTER = (0, 3)
CLUTTER_SIZE = (0.05, 0.2)
PITCH = (0.04, 0.1)  # finer than in other scenes: many things are small
LEAST_SHARE = 0.4  # of a thing's area that is seen; less cannot be told from other shapes
LEAST_PIXELS = 16


@dataclass(frozen=True)
class Jumble:
    """The last `crowd` of `scene.things` are a crowd of one shape."""

    scene: Scene
    crowd: int

    @property
    def singles(self) -> tuple[Thing, ...]:
        """The things outside the crowd, which come first in `scene.things`."""
        return self.scene.things[: len(self.scene.things) - self.crowd]


def sample_jumble(rng: np.random.Generator, *, size: int) -> Jumble:
    """A scene whose every thing is seen well enough on a picture with a longer side of `size` pixels: others are taken
    away."""
    width, height = frame = pick(rng, FRAMES)
    background = sample_texture(rng, BACKGROUNDS, pitch=PITCH)
    empty = rng.random() < EMPTY
    things = [] if empty else _things(rng, frame)
    crowd = _crowd(rng, frame, things) if rng.random() < CROWDED and not empty else []
    clutter = [
        sample_thing(rng, pick(rng, FRAGMENTS), size=rng.uniform(*CLUTTER_SIZE), margin=0.0, frame=frame, pitch=PITCH)
        for _ in range(rng.integers(*CLUTTER, endpoint=True))
    ]
    scene = Scene(background, (*things, *crowd), tuple(clutter), width, height)
    seen = _seen_enough(scene, size)
    kept = tuple(thing for thing, enough in zip(scene.things, seen, strict=True) if enough)
    return Jumble(replace(scene, things=kept), crowd=sum(seen[len(things) :]))


def _things(rng: np.random.Generator, frame: tuple[float, float]) -> list[Thing]:
    """Things of any size, mostly the larger ones behind."""
    found = []
    for _ in range(rng.integers(*THINGS, endpoint=True)):
        shape = pick(rng, SHAPES)
        side = SIDE[0] * (SIDE[1] / SIDE[0]) ** rng.random()
        size = side / math.sqrt(unit_area(shape))
        thing = sample_thing(rng, shape, size=size, margin=min(size / 4, 0.3), frame=frame, pitch=PITCH)
        found.append((side * rng.uniform(0.3, 1), thing))
    things: list[Thing] = []
    for _, thing in sorted(found, key=lambda pair: -pair[0]):
        things.append(set_off(rng, thing, things, COLOURS, pitch=PITCH))
    return things


def _crowd(rng: np.random.Generator, frame: tuple[float, float], behind: list[Thing]) -> list[Thing]:
    """Many small things of one shape around one place."""
    shape = pick(rng, SHAPES)
    radius = rng.uniform(*CROWD_RADIUS)
    x, y = (rng.uniform(radius, extent - radius) for extent in frame)
    found = []
    for _ in range(rng.integers(*CROWD, endpoint=True)):
        size = rng.uniform(*CROWD_SIDE) / math.sqrt(unit_area(shape))
        thing = sample_thing(rng, shape, size=size, margin=0.0, pitch=PITCH)
        distance, turn = radius * math.sqrt(rng.random()), rng.uniform(0, 2 * math.pi)
        thing = replace(thing, x=x + distance * math.cos(turn), y=y + distance * math.sin(turn))
        found.append(set_off(rng, thing, behind, COLOURS, pitch=PITCH))
    return found


def _seen_enough(scene: Scene, size: int) -> list[bool]:
    """Decide for each thing if enough of it is visible; removing the others uncovers some, and covers none."""
    areas = masks(scene, size=size).sum((1, 2)).tolist()
    return [
        area >= max(LEAST_PIXELS, LEAST_SHARE * unit_area(thing.shape) * (thing.size * size) ** 2)
        for area, thing in zip(areas, scene.things, strict=True)
    ]
