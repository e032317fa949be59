"""Scenes of toy pictures: the words for them, and how they are drawn at random.

Lengths and positions are fractions of the picture's longer side, the origin at its upper left corner, `y` down.
Every picture form of the toy set (classes, captions, questions, boxes, masks) follows from these
scenes alone.
"""

import math
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from tasks.toy.shapes import FRAGMENTS, SHAPES, unit_area

COLOURS: dict[str, tuple[int, int, int]] = {
    "black": (28, 28, 32),
    "blue": (40, 84, 200),
    "brown": (122, 76, 44),
    "green": (30, 130, 56),
    "orange": (232, 112, 20),
    "purple": (116, 52, 168),
    "red": (200, 36, 40),
    "teal": (16, 132, 140),
}
"""The named colours of things, as 8-bit RGB: strong ones."""

BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "cream": (250, 240, 212),
    "lavender": (222, 214, 244),
    "mint": (206, 240, 218),
    "rose": (250, 216, 222),
    "silver": (214, 216, 222),
    "sky": (204, 230, 250),
    "white": (248, 248, 246),
}
"""The named colours of backgrounds: pale ones, so that no outline is lost."""

GROUNDS: dict[str, tuple[int, int, int]] = {
    "cyan": (120, 214, 240),
    "gray": (160, 160, 166),
    "pink": (250, 160, 190),
    "white": (248, 248, 246),
    "yellow": (250, 220, 90),
}
"""The named colours of backgrounds that are talked about: distinguishable at a glance, and none is a thing's."""

MATERIALS = ("solid", "striped", "dotted", "checkered", "gradient", "noisy")

SUBJECT_AREA = (0.17, 0.3)  # of the picture, whatever the shape: a diameter of 0.46 (circle) to 0.96 (triangle)
SUBJECT_MARGIN = 0.35  # of its centre from the picture's edge: the edge cuts no more than the tips of a large one
DISTRACTOR_SIZE = (0.12, 0.2)
DISTRACTORS = (0, 3)
TILT = math.pi / 8  # shapes are within this of upright, either way
PITCH = (0.07, 0.14)
FRAMES = ((1.0, 0.75), (1.0, 0.75), (0.75, 1.0), (1.0, 1.0))  # widths and heights of pictures that are not all square

Option = TypeVar("Option")
Range = tuple[float, float]


@dataclass(frozen=True)
class Texture:
    """A surface in two named colours; its pattern repeats every `pitch`, is turned by `angle` (radians) and
    shifted by the share `phase` (0 to 1) of its repeats."""

    material: str
    colour: str
    accent: str
    pitch: float
    angle: float
    phase: float


@dataclass(frozen=True)
class Thing:
    """A shape on the picture: `size` is the diameter of its bounding circle, `x`, `y` that circle's centre,
    `angle` (radians) how far it is turned clockwise."""

    shape: str
    texture: Texture
    size: float
    x: float
    y: float
    angle: float


@dataclass(frozen=True)
class Scene:
    """`things` have names to be asked about, `clutter` lies on top of them; in both, later ones cover earlier
    ones. The picture ends at `width` and `height`, the longer of which is 1."""

    background: Texture
    things: tuple[Thing, ...]
    clutter: tuple[Thing, ...]
    width: float = 1.0
    height: float = 1.0

    @property
    def subject(self) -> Thing:
        """The largest thing."""
        return max(self.things, key=lambda thing: thing.size)


def generator(seed: int, stream: str, index: int) -> np.random.Generator:
    """The random numbers of one picture, which depend on nothing but these three."""
    return np.random.default_rng([seed, zlib.crc32(stream.encode()), index])


def sample_scene(rng: np.random.Generator, *, subject: str | None = None) -> Scene:
    """A scene with one large thing, of the shape `subject` where that is given, and a few small distractors:
    other things, and clutter.

    The shape of the subject is the only thing that depends on `subject`: neither its area nor its place nor any
    colour gives it away.
    """
    paints, grounds = (COLOURS, BACKGROUNDS) if rng.random() < 0.5 else (BACKGROUNDS, COLOURS)
    background = sample_texture(rng, grounds)
    shape = pick(rng, SHAPES)
    shape = subject or shape
    size = math.sqrt(rng.uniform(*SUBJECT_AREA) / unit_area(shape))
    things = [sample_thing(rng, shape, size=size, margin=SUBJECT_MARGIN, colours=paints)]
    clutter = []
    for _ in range(rng.integers(*DISTRACTORS, endpoint=True)):
        whole = rng.random() < 0.5
        shape = pick(rng, SHAPES if whole else FRAGMENTS)
        size = rng.uniform(*DISTRACTOR_SIZE)
        thing = sample_thing(rng, shape, size=size, margin=size / 2, colours=paints)
        (things if whole else clutter).append(thing)
    return Scene(background, tuple(things), tuple(clutter))


def pick(rng: np.random.Generator, options: Iterable[Option]) -> Option:
    """One of `options`, each as likely."""
    options = list(options)
    return options[rng.integers(len(options))]


def sample_texture(
    rng: np.random.Generator, colours: Iterable[str], *, material: str | None = None, pitch: Range = PITCH
) -> Texture:
    """A surface in two of `colours`, of any material where none is given, its `pitch` in that range."""
    colours = list(colours)
    first, second = rng.permutation(len(colours))[:2]
    return Texture(
        material=material or pick(rng, MATERIALS),
        colour=colours[first],
        accent=colours[second],
        pitch=rng.uniform(*pitch),
        angle=rng.uniform(0, 2 * math.pi),
        phase=rng.random(),
    )


def sample_thing(
    rng: np.random.Generator,
    shape: str,
    *,
    size: float,
    margin: float,
    frame: tuple[float, float] = (1.0, 1.0),
    colours: Iterable[str] = tuple(COLOURS),
    pitch: Range = PITCH,
) -> Thing:
    """A thing on a picture of width and height `frame`, its centre `margin` or more from the picture's edge."""
    texture = sample_texture(rng, colours, pitch=pitch)
    x, y = (rng.uniform(margin, extent - margin) for extent in frame)
    return Thing(shape, texture, size, x, y, angle=rng.uniform(-TILT, TILT))


def set_off(
    rng: np.random.Generator, thing: Thing, others: Iterable[Thing], colours: Iterable[str], *, pitch: Range = PITCH
) -> Thing:
    """`thing` in two of `colours` that none of `others` has where the two may touch, as far as enough are left: so
    that one is seen to end where the other begins."""
    colours, near = list(colours), [other for other in others if _may_touch(thing, other)]
    taken = {colour for other in near for colour in (other.texture.colour, other.texture.accent)}
    free = [colour for colour in colours if colour not in taken]
    return replace(thing, texture=sample_texture(rng, free if len(free) > 1 else colours, pitch=pitch))


def _may_touch(thing: Thing, other: Thing) -> bool:
    return math.hypot(thing.x - other.x, thing.y - other.y) < (thing.size + other.size) / 2
