"""Content of a picture, found from its pixels and masks alone, in words of the tests' own.

Only a thing's shape and the kind of its pattern are taken from the scene; place, size, colour, whether there is a
pattern, and the background are measured.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from tasks.toy.draw import draw, masks
from tasks.toy.scene import COLOURS, GROUNDS, Scene

SIZE = 160
NUMBERS = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
SAME = {
    "disc": "circle", "donut": "ring", "plus": "cross", "moon": "crescent", "big": "large", "little": "small",
    "spotted": "dotted", "checked": "checkered",
}  # fmt: skip
SHAPES = {"arrow", "circle", "crescent", "cross", "heart", "hexagon", "ring", "square", "star", "triangle"}


@dataclass(frozen=True)
class SeenThing:
    words: frozenset[str]  # shape, colour, pattern, size
    x: float
    y: float

    @property
    def shape(self) -> str:
        return next(iter(self.words & SHAPES))

    @property
    def colour(self) -> str:
        return next(iter(self.words & COLOURS.keys()))


@dataclass(frozen=True)
class Seen:
    things: tuple[SeenThing, ...]
    ground: str

    def count(self, words: str) -> int:
        return len(self.find(words))

    def find(self, words: str) -> list[SeenThing]:
        """The things that a phrase such as "large red stars" fits."""
        wanted = {SAME.get(word, word) for word in map(singular, words.split())} - {"thing", "shape", "any"}
        return [thing for thing in self.things if wanted <= thing.words]

    def one(self, words: str) -> SeenThing:
        (thing,) = self.find(words)
        return thing


def singular(word: str) -> str:
    if word.endswith(("sses", "uses")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us")) else word


def see(scene: Scene) -> Seen:
    picture, seen = draw(scene, size=SIZE), masks(scene, size=SIZE)
    things = []
    for mask, thing in zip(seen, scene.things, strict=True):
        rows, columns = np.nonzero(mask)
        length = max(np.ptp(columns * np.cos(turn) + rows * np.sin(turn)) for turn in np.arange(0, np.pi, np.pi / 16))
        inked = share(picture[mask], COLOURS["black"])
        assert inked < 0.02 or 0.1 < inked < 0.75
        pattern = "plain" if inked < 0.1 else thing.texture.material
        words = {thing.shape, nearest(picture[mask], COLOURS, but="black"), pattern}
        words.add("large" if length > 0.33 * SIZE else "small")
        things.append(SeenThing(frozenset(words), columns.mean() / SIZE, rows.mean() / SIZE))
    return Seen(tuple(things), nearest(picture[~seen.any(0)], GROUNDS))


def share(pixels: np.ndarray, colour: tuple[int, int, int]) -> float:
    return float((np.abs(pixels.astype(int) - colour).sum(-1) < 24).mean())


def nearest(pixels: np.ndarray, names: dict[str, tuple[int, int, int]], *, but: str = "") -> str:
    """The name that most of the pixels have."""
    return max((name for name in names if name != but), key=lambda name: share(pixels, names[name]))


def stands(first: SeenThing, relation: str, second: SeenThing) -> bool:
    return {
        "above": first.y < second.y,
        "below": first.y > second.y,
        "to the left of": first.x < second.x,
        "to the right of": first.x > second.x,
    }[relation]


RELATION = "(above|below|to the left of|to the right of)"


def match(pattern: str, text: str) -> tuple[str, ...] | None:
    found = re.fullmatch(pattern, text)
    return found.groups() if found else None
