"""Captions are true, differ from each other, and mostly single out their picture."""

from __future__ import annotations

import re

import pytest

from tasks.toy.captions import captions, tokens
from tasks.toy.scene import Scene, generator
from tasks.toy.still_life import Palette, sample_still_life
from tests.tasks.toy.seeing import NUMBERS, RELATION, Seen, match, see, stands

OPENINGS = r"(?:there is|there are|an image of|a picture of|an image with|this picture shows)"


def is_true(seen: Seen, caption: str) -> bool:
    """Check that a person would say this of the picture."""
    text = caption.lower().removesuffix(".")
    if found := match(rf"(.*) {RELATION} (.*)", text):
        first, second = phrase(found[0]), phrase(found[2])
        return (
            all(seen.count(words) == count == 1 for count, words in (first, second))
            and stands(seen.one(first[1]), found[1], seen.one(second[1]))
        )  # fmt: skip
    if found := match(r"(.*) and (\w+) other (?:things?|shapes)", text):
        count, words = phrase(found[0])
        return seen.count(words) == count and len(seen.things) == count + NUMBERS[found[1]]
    if found := match(r"(\w+) (?:things|shapes): (.*)", text):
        return len(seen.things) == NUMBERS[found[0]] == sum(listed(seen, found[1]) or [0])
    ground = None
    if found := match(r"an? (\w+) background with (.*)", text):
        ground, text = found
    elif found := match(r"(.*) on an? (\w+) background", text):
        text, ground = found
    elif found := match(rf"{OPENINGS} (.*)", text):
        (text,) = found
    return ground in (None, seen.ground) and bool(listed(seen, text))


def listed(seen: Seen, text: str) -> list[int]:
    """The numbers in a list of things; [] when one of them is wrong."""
    phrases = [phrase(part) for part in re.split(", | and ", text)]
    right = all(seen.count(words) == count for count, words in phrases)
    return [count for count, _ in phrases] if right else []


def phrase(text: str) -> tuple[int, str]:
    number, words = text.split(" ", 1)
    return NUMBERS[number], words


@pytest.fixture(scope="module")
def described() -> list[tuple[Scene, list[str]]]:
    found = []
    for index in range(80):
        rng = generator(7, "test", index)
        scene = sample_still_life(rng, Palette())
        found.append((scene, captions(rng, scene, 5)))
    return found


@pytest.mark.slow
def test_captions_are_true_and_mostly_of_one_picture(described: list[tuple[Scene, list[str]]]) -> None:
    """Of 80 pictures; so retrieval is possible, and some captions leave several to choose from."""
    seen = [see(scene) for scene, _ in described]
    alone = 0
    for own, (_, texts) in zip(seen, described, strict=True):
        for text in texts:
            assert is_true(own, text), (text, own)
            alone += sum(is_true(other, text) for other in seen) == 1
    assert 0.8 < alone / (5 * len(seen)) < 0.99


def test_captions_differ_from_each_other(described: list[tuple[Scene, list[str]]]) -> None:
    for _, texts in described:
        assert len({text.lower().removesuffix(".") for text in texts}) == 5
        assert len({" ".join(text.lower().split()[:2]) for text in texts}) >= 2
    ten = [captions(generator(8, "test", index), scene, 10) for index, (scene, _) in enumerate(described)]
    assert all(len(set(texts)) == 10 for texts in ten)


def test_words_have_synonyms_and_sentences_two_ends(described: list[tuple[Scene, list[str]]]) -> None:
    texts = [text for _, five in described for text in five]
    used = {word for text in texts for word in tokens(text)}
    assert {"big", "large", "disc", "circle", "spotted", "dotted", "orange", "an"} <= used
    assert 0.3 < sum(text.endswith(".") for text in texts) / len(texts) < 0.9
    assert not [text for text in texts if re.search(r"\ba [aeiou]|\ban [^aeiou]", text.lower())]


def test_few_captions_depend_on_left_and_right(described: list[tuple[Scene, list[str]]]) -> None:
    """Training flips pictures from left to right and leaves the words."""
    texts = [text for _, five in described for text in five]
    assert sum(" left " in text or " right " in text for text in texts) / len(texts) < 0.05


def test_tokens_are_lower_case_words() -> None:
    caption = "Four things: two red rings, a star and a disc."
    assert " ".join(tokens(caption)) == "four things two red rings a star and a disc"
