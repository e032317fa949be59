"""Statements about two images, and pairs of images on which they are true or false."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tasks.toy.phrases import FORMS, NUMBERS, Phrase, any_phrase, any_relation, article, relates
from tasks.toy.scene import Scene, pick
from tasks.toy.still_life import Palette, sample_still_life

Pair = tuple[Scene, Scene]  # left and right
SIDES = ("left", "right")
DRAWN = 24  # scenes among which four pairs are sought before other statements are tried


@dataclass(frozen=True)
class Statement:
    text: str
    holds: Callable[[Scene, Scene], bool | None]  # of the left and the right image; None: too close to call


class Group(NamedTuple):
    """Two statements about the same four pairs of images: each pair makes one of them true and the other false."""

    shape: str  # that all its scenes may show
    statements: tuple[Statement, Statement]
    pairs: tuple[Pair, ...]
    first_holds: tuple[bool, ...]  # of each pair; two are true


def sample_group(rng: np.random.Generator) -> Group:
    """Draw a group at random.

    A sentence is as often true as false, and so is what is said of a pair: neither alone tells the label. All scenes
    of a group are drawn from few words, so that a false statement is nearly right.
    """
    while True:
        palette = Palette(*(_some(rng, options, 3) for options in (_ALL.shapes, _ALL.colours, _ALL.grounds)))
        kind = pick(rng, _KINDS)
        other = pick(rng, [other for other in _KINDS if other is not kind])
        first, second = kind(rng, palette), other(rng, palette)
        pairs = _pairs([sample_still_life(rng, palette) for _ in range(DRAWN)], first, second)
        if pairs:
            order = rng.permutation(4).tolist()
            return Group(
                palette.shapes[0],
                (first, second),
                tuple(pairs[index] for index in order),
                tuple(index < 2 for index in order),
            )


def _pairs(scenes: list[Scene], first: Statement, second: Statement) -> list[Pair]:
    """Two pairs on which `first` holds and `second` does not, then two the other way round; [] if there are not.

    No scene is in two pairs.
    """
    found: dict[bool, list[Pair]] = {True: [], False: []}
    free = list(scenes)
    while len(free) > 1:
        left = free.pop(0)
        for right in free:
            holds, other = first.holds(left, right), second.holds(left, right)
            if None not in (holds, other) and holds != other and len(found[holds]) < 2:
                found[holds].append((left, right))
                free.remove(right)
                break
    pairs = found[True] + found[False]
    return pairs if len(pairs) == 4 else []


def _some(rng: np.random.Generator, options: tuple[str, ...], count: int) -> tuple[str, ...]:
    return tuple(options[index] for index in rng.permutation(len(options))[:count])


def _phrase(rng: np.random.Generator, palette: Palette) -> Phrase:
    return any_phrase(rng, palette, FORMS[rng.integers(len(FORMS))])


def _one_image_shows(rng: np.random.Generator, palette: Palette) -> Statement:
    side, phrase = pick(rng, SIDES), _phrase(rng, palette)
    text = pick(rng, ("The {} image shows {}.", "There is {1} in the {0} image."))
    return Statement(text.format(side, phrase.singular()), lambda *pair: phrase.count(pair[SIDES.index(side)]) > 0)


def _images_show(rng: np.random.Generator, palette: Palette) -> Statement:
    phrase = _phrase(rng, palette)
    return _of_images(rng, ("shows", "show"), phrase.singular(), lambda scene: phrase.count(scene) > 0)


def _one_image_has_exactly(rng: np.random.Generator, palette: Palette) -> Statement:
    side, phrase, number = pick(rng, SIDES), _phrase(rng, palette), int(rng.integers(1, 4))
    return Statement(
        f"The {side} image contains exactly {NUMBERS[number]} {phrase.words(number)}.",
        lambda *pair: phrase.count(pair[SIDES.index(side)]) == number,
    )


def _total(rng: np.random.Generator, palette: Palette) -> Statement:
    phrase, number = _phrase(rng, palette), int(rng.integers(2, 5))
    return Statement(
        f"There are {NUMBERS[number]} {phrase.words(number)} in total.",
        lambda left, right: phrase.count(left) + phrase.count(right) == number,
    )


def _more(rng: np.random.Generator, palette: Palette) -> Statement:
    phrase = pick(rng, (Phrase(), _phrase(rng, palette)))
    side, other = _some(rng, SIDES, 2)
    text = pick(rng, ("There are more {} in the {} image than in the {} image.", "The {1} image has more {0}."))
    return Statement(
        text.format(phrase.words(2), side, other),
        lambda *pair: phrase.count(pair[SIDES.index(side)]) > phrase.count(pair[SIDES.index(other)]),
    )


def _as_many(rng: np.random.Generator, palette: Palette) -> Statement:
    phrase = pick(rng, (Phrase(), _phrase(rng, palette)))
    return Statement(
        f"Both images have the same number of {phrase.words(2)}.",
        lambda left, right: phrase.count(left) == phrase.count(right),
    )


def _background(rng: np.random.Generator, palette: Palette) -> Statement:
    side, ground = pick(rng, SIDES), pick(rng, palette.grounds)
    return Statement(
        f"The {side} image has {article(ground)} background.",
        lambda *pair: pair[SIDES.index(side)].background.colour == ground,
    )


def _backgrounds(rng: np.random.Generator, palette: Palette) -> Statement:
    ground = pick(rng, palette.grounds)
    return _of_images(
        rng, ("has", "have"), f"{article(ground)} background", lambda scene: scene.background.colour == ground
    )


def _of_images(
    rng: np.random.Generator, verb: tuple[str, str], rest: str, is_true: Callable[[Scene], bool]
) -> Statement:
    """In how many of the two images something is true."""
    images, plural, numbers = _HOW_MANY[rng.integers(len(_HOW_MANY))]
    return Statement(f"{images} {verb[plural]} {rest}.", lambda left, right: is_true(left) + is_true(right) in numbers)


def _related(rng: np.random.Generator, palette: Palette) -> Statement:
    """Of things in one image, at least in one of the two."""
    forms = (("colour",), ("shape",))
    first, second = (any_phrase(rng, palette, forms[rng.integers(2)]) for _ in range(2))
    relation = any_relation(rng)

    def holds(*pair: Scene) -> bool | None:
        found = {
            relates(thing, relation, other)
            for scene in pair
            for thing in scene.things
            for other in scene.things
            if thing is not other and first.fits(thing) and second.fits(other)
        }
        return True if True in found else None if None in found else False

    return Statement(f"In one image, {first.singular()} is {relation} {second.singular()}.", holds)


_ALL = Palette()
_HOW_MANY = (
    ("Both images", True, {2}),
    ("Only one image", False, {1}),
    ("At least one image", False, {1, 2}),
    ("Neither image", False, {0}),
)
_EASY = (_background, _backgrounds, _one_image_shows, _images_show)
_KINDS: tuple[Callable[[np.random.Generator, Palette], Statement], ...] = (
    # The first step is hard enough from scratch, so what a glance can tell comes twice as often.
    *_EASY, *_EASY, _one_image_has_exactly, _total, _more, _as_many, _related,
)  # fmt: skip
