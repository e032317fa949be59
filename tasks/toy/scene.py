"""What a toy picture shows: the words for it, and how a scene is drawn by lot.

Lengths and positions are fractions of the picture's side, the origin at its upper left corner, `y` down.
Every picture form of the toy set (classes, captions, questions, boxes, masks) is meant to be told from these
scenes alone.
"""

import math
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tasks.toy.shapes import FRAGMENTS, SHAPES

COLOURS: dict[str, tuple[int, int, int]] = {
    "black": (28, 28, 32),
    "blue": (40, 84, 200),
    "brown": (122, 76, 44),
    "cyan": (70, 200, 214),
    "gray": (136, 138, 142),
    "green": (46, 150, 66),
    "orange": (244, 134, 32),
    "pink": (244, 142, 188),
    "purple": (128, 62, 176),
    "red": (208, 40, 44),
    "white": (246, 246, 242),
    "yellow": (246, 212, 58),
}
"""The named colours, as 8-bit RGB."""

MATERIALS = ("solid", "striped", "dotted", "checkered", "gradient", "noisy")

SUBJECT_SIZE = (0.45, 0.75)
DISTRACTOR_SIZE = (0.12, 0.22)
DISTRACTORS = (2, 6)
PITCH = (0.07, 0.14)


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

    The shape of the subject is the only thing that depends on `subject`, so nothing else can give it away.
    """
    colours = [list(COLOURS)[k] for k in rng.permutation(len(COLOURS))]
    shape = _pick(rng, SHAPES)
    # Things are never of a background colour: their outlines would be lost.
    background, colours = _texture(rng, colours[:2]), colours[2:]
    things = [_thing(rng, subject or shape, colours, size=rng.uniform(*SUBJECT_SIZE))]
    clutter = []
    for _ in range(rng.integers(*DISTRACTORS, endpoint=True)):
        whole = rng.random() < 0.5
        shape = _pick(rng, SHAPES if whole else FRAGMENTS)
        (things if whole else clutter).append(_thing(rng, shape, colours, size=rng.uniform(*DISTRACTOR_SIZE)))
    return Scene(background, tuple(things), tuple(clutter))


def _pick(rng: np.random.Generator, options: Iterable[str]) -> str:
    options = list(options)
    return options[rng.integers(len(options))]


def _texture(rng: np.random.Generator, colours: list[str]) -> Texture:
    first, second = rng.permutation(len(colours))[:2]
    return Texture(
        material=_pick(rng, MATERIALS),
        colour=colours[first],
        accent=colours[second],
        pitch=rng.uniform(*PITCH),
        angle=rng.uniform(0, 2 * math.pi),
        phase=rng.random(),
    )


def _thing(rng: np.random.Generator, shape: str, colours: list[str], *, size: float) -> Thing:
    texture = _texture(rng, colours)
    x, y = (rng.uniform(size / 2, 1 - size / 2) for _ in range(2))
    return Thing(shape, texture, size, x, y, angle=rng.uniform(0, 2 * math.pi))
