"""Words for the things of a scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.toy.scene import Scene, Thing, pick
from tasks.toy.still_life import CLEAR, DIAMETERS, MATERIALS, Palette, size_of

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
PATTERNS = {material: "plain" if material == "solid" else material for material in MATERIALS}

# How much a phrase says; what is left out is open. Colours alone are the easiest to see, so they come twice.
FORMS = (("colour",), ("colour",), ("shape",), ("colour", "shape"), ("material", "shape"), ("size", "shape"))


@dataclass(frozen=True)
class Phrase:
    """A description of things; None leaves a property open."""

    shape: str | None = None
    colour: str | None = None
    material: str | None = None
    size: str | None = None

    def fits(self, thing: Thing) -> bool:
        return (
            self.shape in (None, thing.shape)
            and self.colour in (None, thing.texture.colour)
            and self.material in (None, thing.texture.material)
            and self.size in (None, size_of(thing))
        )

    def count(self, scene: Scene) -> int:
        return sum(self.fits(thing) for thing in scene.things)

    def words(self, count: int = 1) -> str:
        """Such as "large striped red stars"; "things" where the shape is open."""
        noun = self.shape or "thing"
        if count != 1:
            noun += "es" if noun.endswith("s") else "s"
        adjectives = (self.size, PATTERNS.get(self.material), self.colour)
        return " ".join(word for word in (*adjectives, noun) if word)

    def singular(self) -> str:
        """With its article: "an orange star"."""
        return article(self.words())


def of(thing: Thing, form: Sequence[str] = ("shape", "colour", "material", "size")) -> Phrase:
    """Phrase about `thing` with the properties that `form` names."""
    texture = thing.texture
    properties = {"shape": thing.shape, "colour": texture.colour, "material": texture.material, "size": size_of(thing)}
    return Phrase(**{name: properties[name] for name in form})


def any_phrase(rng: np.random.Generator, palette: Palette, form: Sequence[str]) -> Phrase:
    """A phrase of `form` about things that `palette` may show."""
    options = {"shape": palette.shapes, "colour": palette.colours, "material": MATERIALS, "size": DIAMETERS}
    return Phrase(**{name: pick(rng, options[name]) for name in form})


def article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def groups(scene: Scene) -> list[list[Thing]]:
    """The things of each shape and colour."""
    found: dict[tuple[str, str], list[Thing]] = {}
    for thing in scene.things:
        found.setdefault((thing.shape, thing.texture.colour), []).append(thing)
    return list(found.values())


# Fine-tuning flips pictures from left to right and leaves the words as they are, in the official recipes of every task
# with text. Left and right are then wrong half of the time, so few texts say it.
SIDEWAYS = 0.15  # the share of relations along x
RELATIONS = {"above": (1, -1), "below": (1, 1), "to the left of": (0, -1), "to the right of": (0, 1)}
"""By name: the axis (0 = x, 1 = y) and the sign of the difference along it."""


def any_relation(rng: np.random.Generator) -> str:
    upright, sideways = ("above", "below"), ("to the left of", "to the right of")
    return pick(rng, sideways if rng.random() < SIDEWAYS else upright)


def relates(thing: Thing, relation: str, other: Thing) -> bool | None:
    """Check that `thing` is in `relation` to `other`; None when it is too close to call."""
    axis, sign = RELATIONS[relation]
    distance = sign * ((thing.x, thing.y)[axis] - (other.x, other.y)[axis])
    return None if abs(distance) < CLEAR else distance > 0
