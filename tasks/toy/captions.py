"""Captions of a scene: true sentences that differ in what they mention, in order and words."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tasks.toy.phrases import NUMBERS, any_relation, article, groups, of, relates
from tasks.toy.scene import Scene, Thing, pick

SYNONYMS = {
    "checkered": "checked", "circle": "disc", "circles": "discs", "cross": "plus", "crosses": "pluses",
    "crescent": "moon", "crescents": "moons", "dotted": "spotted", "large": "big", "ring": "donut", "rings": "donuts",
    "small": "little", "things": "shapes",
}  # fmt: skip
SWAPPED = 0.25  # how often a word gives way to its synonym
DETAIL = 0.35  # how often a size or a pattern is mentioned; every other thing said is a number, a colour and a shape
FULL_STOP = 0.6


def captions(rng: np.random.Generator, scene: Scene, count: int) -> list[str]:
    """`count` different captions, of as many forms as apply."""
    found: dict[str, str] = {}
    while True:
        for form in rng.permutation(len(_FORMS)):
            words = _FORMS[form](rng, scene)
            if words is None:
                continue
            caption = " ".join(_reworded(rng, words.split()))
            found.setdefault(caption, _sentence(rng, caption))
            if len(found) == count:
                return list(found.values())


def tokens(caption: str) -> list[str]:
    """The words of a caption as the Karpathy files have them: lower case, no punctuation."""
    return caption.lower().replace(".", "").replace(",", "").replace(":", "").split()


def _reworded(rng: np.random.Generator, words: Sequence[str]) -> list[str]:
    swapped = rng.random(len(words)) < SWAPPED
    return [SYNONYMS.get(word, word) if swap else word for word, swap in zip(words, swapped, strict=True)]


def _sentence(rng: np.random.Generator, words: str) -> str:
    return words[0].upper() + words[1:] + ("." if rng.random() < FULL_STOP else "")


def _said(rng: np.random.Generator, group: Sequence[Thing]) -> str:
    """A group with its number, such as "two large red stars"."""
    form = ["shape", "colour", *(name for name in ("material", "size") if rng.random() < DETAIL)]
    words = of(group[0], form).words(len(group))
    return article(words) if len(group) == 1 else f"{NUMBERS[len(group)]} {words}"


def _listed(rng: np.random.Generator, scene: Scene, *, everything: bool = False) -> str:
    """Some groups in any order, joined by "and"; never fewer than two where there are two."""
    options = groups(scene)
    least = len(options) if everything else min(2, len(options))
    order = rng.permutation(len(options))[: rng.integers(least, len(options), endpoint=True)]
    said = [_said(rng, options[index]) for index in order]
    return " and ".join([", ".join(said[:-1]), said[-1]] if len(said) > 1 else said)


def _on_ground(rng: np.random.Generator, scene: Scene) -> str:
    return f"{_listed(rng, scene)} on {article(scene.background.colour)} background"


def _there_are(rng: np.random.Generator, scene: Scene) -> str:
    listed = _listed(rng, scene)
    return f"there {'is' if listed.split()[0] in ('a', 'an') else 'are'} {listed}"


def _picture_of(rng: np.random.Generator, scene: Scene) -> str:
    return f"{pick(rng, ('an image of', 'a picture of', 'an image with', 'this picture shows'))} {_listed(rng, scene)}"


def _ground_first(rng: np.random.Generator, scene: Scene) -> str:
    return f"{article(scene.background.colour)} background with {_listed(rng, scene)}"


def _counted(rng: np.random.Generator, scene: Scene) -> str:
    return f"{NUMBERS[len(scene.things)]} things: {_listed(rng, scene, everything=True)}"


def _among_others(rng: np.random.Generator, scene: Scene) -> str | None:
    options = groups(scene)
    group = options[rng.integers(len(options))]
    rest = len(scene.things) - len(group)
    if not rest:
        return None
    return f"{_said(rng, group)} and {NUMBERS[rest]} other {'thing' if rest == 1 else 'things'}"


def _related(rng: np.random.Generator, scene: Scene) -> str | None:
    """One thing and the position of another: both of a kind that is there once."""
    single = [group for group in groups(scene) if len(group) == 1]
    relation = any_relation(rng)
    pairs = [(a, b) for a in single for b in single if a is not b and relates(a[0], relation, b[0])]
    if not pairs:
        return None
    first, second = pairs[rng.integers(len(pairs))]
    return f"{_said(rng, first)} {relation} {_said(rng, second)}"


_FORMS: tuple[Callable[[np.random.Generator, Scene], str | None], ...] = (
    _on_ground, _there_are, _picture_of, _ground_first, _counted, _among_others, _related,
)  # fmt: skip
