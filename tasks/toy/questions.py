"""Questions about a scene whose answers follow neither from the words alone nor from the picture alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tasks.toy.phrases import (
    FORMS,
    PATTERNS,
    Phrase,
    any_phrase,
    any_relation,
    groups,
    of,
    relates,
)  # fmt: skip
from tasks.toy.scene import GROUNDS, Scene, Thing, pick
from tasks.toy.still_life import DIAMETERS, FAMILIAR, PAINTS, Palette, size_of

PALETTE = Palette(shapes=FAMILIAR)
YES_NO = ("yes", "no")
LEAD = 2  # by how many uses an answer may be ahead of its template's rarest
OFFICIAL_TYPES = (
    "are the", "are there", "are there any", "how many", "is the", "is there", "is there a", "what",
    "what color are the", "what color is the", "what is",
)  # fmt: skip


class Question(NamedTuple):
    """A question as VQAv2 has it."""

    text: str
    answer: str
    answers: tuple[str, ...]  # that such a question may have
    answer_type: str  # yes/no, number or other
    question_type: str  # the longest of VQAv2's openings


Ask = Callable[[np.random.Generator, Scene], Mapping[str, str]]


@dataclass(frozen=True)
class _Template:
    """`ask` has a question for every answer that the scene allows."""

    answer_type: str
    answers: tuple[str, ...]
    ask: Ask


class Interviewer:
    """Asks about one scene after another and remembers which answers it has had, to keep them balanced.

    Of the templates least used so far it takes one that has a question with one of its rarest answers. What is asked
    of a scene thus depends on the scenes before it, and on nothing after it.
    """

    def __init__(self) -> None:
        self._uses = [Counter(dict.fromkeys(template.answers, 0)) for template in _TEMPLATES]

    def ask(self, rng: np.random.Generator, scene: Scene, answer_types: Sequence[str]) -> list[Question]:
        """Up to three questions, one of each type, no template twice.

        Where a type has nothing balanced to ask about the scene, a question with "yes" or "no" takes its place: three
        templates always have both answers.
        """
        asked: dict[int, Question] = {}
        for wanted in answer_types:
            index, answer, text = self._choose(rng, scene, wanted, asked) or self._choose(rng, scene, "yes/no", asked)
            self._uses[index][answer] += 1
            template = _TEMPLATES[index]
            asked[index] = Question(text, answer, template.answers, template.answer_type, _question_type(text))
        return list(asked.values())

    def _choose(
        self, rng: np.random.Generator, scene: Scene, answer_type: str, asked: Mapping[int, Question]
    ) -> tuple[int, str, str] | None:
        order = [index for index in rng.permutation(len(_TEMPLATES)).tolist() if index not in asked]
        for index in sorted(order, key=lambda index: self._uses[index].total()):
            template, uses = _TEMPLATES[index], self._uses[index]
            if template.answer_type != answer_type:
                continue
            most = min(uses.values()) + LEAD
            offers = [offer for offer in template.ask(rng, scene).items() if uses.get(offer[0], most) < most]
            if offers:
                rarest = min(uses[answer] for answer, _ in offers)
                offers = [offer for offer in offers if uses[offer[0]] == rarest]
                return index, *offers[rng.integers(len(offers))]
        return None


def _question_type(text: str) -> str:
    return max((opening for opening in OFFICIAL_TYPES if text.lower().startswith(opening + " ")), key=len)


def _is_there(rng: np.random.Generator, scene: Scene) -> dict[str, str]:
    form = FORMS[rng.integers(len(FORMS))]
    there = of(_any_thing(rng, scene), form)
    absent = _absent(rng, scene, form)
    return {"yes": f"Is there {there.singular()}?", "no": f"Is there {absent.singular()}?"}


def _are_there(rng: np.random.Generator, scene: Scene) -> dict[str, str]:
    form = FORMS[rng.integers(len(FORMS))]
    there = of(_any_thing(rng, scene), form)
    absent = _absent(rng, scene, form)
    return {"yes": f"Are there any {there.words(2)}?", "no": f"Are there any {absent.words(2)}?"}


def _is_background(rng: np.random.Generator, scene: Scene) -> dict[str, str]:
    ground = scene.background.colour
    other = pick(rng, [name for name in GROUNDS if name != ground])
    return {"yes": f"Is the background {ground}?", "no": f"Is the background {other}?"}


def _is_colour(rng: np.random.Generator, scene: Scene) -> dict[str, str]:
    thing = _named(rng, scene, "shape")
    if thing is None:
        return {}
    other = pick(rng, [name for name in PAINTS if name != thing.texture.colour])
    return {"yes": f"Is the {thing.shape} {thing.texture.colour}?", "no": f"Is the {thing.shape} {other}?"}


def _is_related(rng: np.random.Generator, scene: Scene) -> dict[str, str]:
    relation = any_relation(rng)
    single = [group[0] for group in groups(scene) if len(group) == 1]
    pairs = [(a, b) for a in single for b in single if relates(a, relation, b)]
    if not pairs:
        return {}
    first, second = (of(thing, ("colour", "shape")).words() for thing in pairs[rng.integers(len(pairs))])
    return {"yes": f"Is the {first} {relation} the {second}?", "no": f"Is the {second} {relation} the {first}?"}


def _more(rng: np.random.Generator, scene: Scene) -> dict[str, str]:
    name = pick(rng, ("shape", "colour"))
    counts = Counter(of(thing, (name,)) for thing in scene.things)
    pairs = [(a, b) for a in counts for b in counts if counts[a] > counts[b]]
    if not pairs:
        return {}
    more, fewer = (phrase.words(2) for phrase in pairs[rng.integers(len(pairs))])
    return {"yes": f"Are there more {more} than {fewer}?", "no": f"Are there more {fewer} than {more}?"}


def _larger(rng: np.random.Generator, scene: Scene) -> dict[str, str]:
    single = [thing for thing in scene.things if _alone(scene, of(thing, ("shape",)))]
    pairs = [(a, b) for a in single for b in single if (size_of(a), size_of(b)) == ("large", "small")]
    if not pairs:
        return {}
    large, small = (thing.shape for thing in pairs[rng.integers(len(pairs))])
    return {"yes": f"Is the {large} larger than the {small}?", "no": f"Is the {small} larger than the {large}?"}


def _same_colour(rng: np.random.Generator, scene: Scene) -> dict[str, str]:
    single = [thing for thing in scene.things if _alone(scene, of(thing, ("shape",)))]
    offers = {}
    for answer, wanted in (("yes", True), ("no", False)):
        pairs = [
            (a, b) for a in single for b in single if a is not b and (a.texture.colour == b.texture.colour) is wanted
        ]
        if pairs:
            first, second = pairs[rng.integers(len(pairs))]
            offers[answer] = f"Are the {first.shape} and the {second.shape} the same color?"
    return offers


def _how_many(rng: np.random.Generator, scene: Scene) -> dict[str, str]:
    form = FORMS[rng.integers(len(FORMS))]
    phrases = list(dict.fromkeys(of(thing, form) for thing in scene.things))
    phrases = [phrases[index] for index in rng.permutation(len(phrases))] + [_absent(rng, scene, form)]
    return {str(phrase.count(scene)): f"How many {phrase.words(2)} are there?" for phrase in phrases}


def _how_many_things(rng: np.random.Generator, scene: Scene) -> dict[str, str]:
    return {str(len(scene.things)): pick(rng, ("How many things are there?", "How many shapes are in the picture?"))}


def _background(rng: np.random.Generator, scene: Scene) -> dict[str, str]:
    return {scene.background.colour: "What color is the background?"}


def _colour(rng: np.random.Generator, scene: Scene) -> dict[str, str]:
    options = [group for group in groups(scene) if _one_colour(scene, group[0].shape)]
    if not options:
        return {}
    group = options[rng.integers(len(options))]
    words = Phrase(shape=group[0].shape).words(len(group))
    return {group[0].texture.colour: f"What color {'is' if len(group) == 1 else 'are'} the {words}?"}


def _shape(rng: np.random.Generator, scene: Scene) -> dict[str, str]:
    thing = _named(rng, scene, "colour")
    return {thing.shape: f"What shape is the {thing.texture.colour} thing?"} if thing else {}


def _pattern(rng: np.random.Generator, scene: Scene) -> dict[str, str]:
    thing = _named(rng, scene, "colour", "shape")
    words = thing and of(thing, ("colour", "shape")).words()
    return {PATTERNS[thing.texture.material]: f"What pattern does the {words} have?"} if thing else {}


def _size(rng: np.random.Generator, scene: Scene) -> dict[str, str]:
    thing = _named(rng, scene, "shape")
    return {size_of(thing): f"Is the {thing.shape} large or small?"} if thing else {}


def _what_is(rng: np.random.Generator, scene: Scene) -> dict[str, str]:
    relation, thing, found = _beside(rng, scene)
    return {found.shape: f"What is {relation} the {of(thing, ('colour', 'shape')).words()}?"} if found else {}


def _colour_of_what_is(rng: np.random.Generator, scene: Scene) -> dict[str, str]:
    relation, thing, found = _beside(rng, scene)
    return {found.texture.colour: f"What color is the thing {relation} the {thing.shape}?"} if found else {}


def _beside(rng: np.random.Generator, scene: Scene) -> tuple[str, Thing | None, Thing | None]:
    """A relation, a thing of a shape that is there once, and the one thing in that relation to it."""
    relation = any_relation(rng)
    thing = _named(rng, scene, "shape")
    if thing is None:
        return relation, None, None
    related = {other: relates(other, relation, thing) for other in scene.things if other is not thing}
    found = [other for other, holds in related.items() if holds]
    return relation, thing, found[0] if len(found) == 1 and None not in related.values() else None


def _any_thing(rng: np.random.Generator, scene: Scene) -> Thing:
    return scene.things[rng.integers(len(scene.things))]


def _absent(rng: np.random.Generator, scene: Scene, form: Sequence[str]) -> Phrase:
    """A phrase of `form` that fits nothing, as likely of any words as one that fits."""
    while True:
        phrase = any_phrase(rng, PALETTE, form)
        if not phrase.count(scene):
            return phrase


def _alone(scene: Scene, phrase: Phrase) -> bool:
    return phrase.count(scene) == 1


def _named(rng: np.random.Generator, scene: Scene, *form: str) -> Thing | None:
    """A thing that a phrase of `form` fits alone."""
    options = [thing for thing in scene.things if _alone(scene, of(thing, form))]
    return options[rng.integers(len(options))] if options else None


def _one_colour(scene: Scene, shape: str) -> bool:
    return len({thing.texture.colour for thing in scene.things if thing.shape == shape}) == 1


_TEMPLATES = (
    _Template("yes/no", YES_NO, _is_there),
    _Template("yes/no", YES_NO, _are_there),
    _Template("yes/no", YES_NO, _is_background),
    _Template("yes/no", YES_NO, _is_colour),
    _Template("yes/no", YES_NO, _is_related),
    _Template("yes/no", YES_NO, _more),
    _Template("yes/no", YES_NO, _larger),
    _Template("yes/no", YES_NO, _same_colour),
    _Template("number", ("0", "1", "2", "3"), _how_many),
    _Template("number", ("2", "3", "4", "5"), _how_many_things),
    _Template("other", tuple(GROUNDS), _background),
    _Template("other", PAINTS, _colour),
    _Template("other", FAMILIAR, _shape),
    _Template("other", tuple(PATTERNS.values()), _pattern),
    _Template("other", tuple(DIAMETERS), _size),
    _Template("other", FAMILIAR, _what_is),
    _Template("other", PAINTS, _colour_of_what_is),
)
