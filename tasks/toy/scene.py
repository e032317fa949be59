"""What a toy picture shows: the words for it, and how a scene is drawn by lot.

Lengths and positions are fractions of the picture's side, the origin at its upper left corner, `y` down.
Every picture form of the toy set (classes, captions, questions, boxes, masks) is meant to be told from these
scenes alone.
"""

import math
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
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
"""The named colours of backgrounds that are talked about: told apart at a glance, and none is a thing's."""

MATERIALS = ("solid", "striped", "dotted", "checkered", "gradient", "noisy")

SUBJECT_AREA = (0.1, 0.155)  # of the picture, whatever the shape: 0.36 (circle) to 0.70 (triangle) of its side
SUBJECT_MARGIN = 0.3  # of its centre from the picture's edge: the edge cuts no more than the tips of a large one
DISTRACTOR_SIZE = (0.12, 0.2)
DISTRACTORS = (2, 6)
TILT = math.pi / 4  # shapes stand within this of upright, either way
PITCH = (0.07, 0.14)

Option = TypeVar("Option")


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
    ones."""

    background: Texture
    things: tuple[Thing, ...]
    clutter: tuple[Thing, ...]

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
    background = _texture(rng, list(BACKGROUNDS))
    shape = pick(rng, SHAPES)
    shape = subject or shape
    size = math.sqrt(rng.uniform(*SUBJECT_AREA) / unit_area(shape))
    things = [_thing(rng, shape, size=size, margin=SUBJECT_MARGIN)]
    clutter = []
    for _ in range(rng.integers(*DISTRACTORS, endpoint=True)):
        whole = rng.random() < 0.5
        shape = pick(rng, SHAPES if whole else FRAGMENTS)
        size = rng.uniform(*DISTRACTOR_SIZE)
        (things if whole else clutter).append(_thing(rng, shape, size=size, margin=size / 2))
    return Scene(background, tuple(things), tuple(clutter))


def pick(rng: np.random.Generator, options: Iterable[Option]) -> Option:
    """One of `options`, each as likely."""
    options = list(options)
    return options[rng.integers(len(options))]


def _texture(rng: np.random.Generator, colours: list[str]) -> Texture:
    first, second = rng.permutation(len(colours))[:2]
    return Texture(
        material=pick(rng, MATERIALS),
        colour=colours[first],
        accent=colours[second],
        pitch=rng.uniform(*PITCH),
        angle=rng.uniform(0, 2 * math.pi),
        phase=rng.random(),
    )


def _thing(rng: np.random.Generator, shape: str, *, size: float, margin: float) -> Thing:
    texture = _texture(rng, list(COLOURS))
    x, y = (rng.uniform(margin, 1 - margin) for _ in range(2))
    return Thing(shape, texture, size, x, y, angle=rng.uniform(-TILT, TILT))
