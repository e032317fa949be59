"""Statements hold where they are seen to hold, and each pair of images makes one true and one false."""

from __future__ import annotations

import pytest

from tasks.toy.scene import generator
from tasks.toy.statements import Group, sample_group
from tests.tasks.toy.seeing import NUMBERS, RELATION, Seen, match, see, stands

pytestmark = pytest.mark.slow  # draws pictures

IN_HOW_MANY = {"Both images": (2,), "Only one image": (1,), "At least one image": (1, 2), "Neither image": (0,)}
IMAGES = f"({'|'.join(IN_HOW_MANY)})"


def holds(left: Seen, right: Seen, sentence: str) -> bool:
    """Check that a person would call the statement true."""
    sides = {"left": left, "right": right}
    if found := match(rf"{IMAGES} (?:has|have) an? (\w+) background\.", sentence):
        return (left.ground == found[1]) + (right.ground == found[1]) in IN_HOW_MANY[found[0]]
    if found := match(r"The (left|right) image has an? (\w+) background\.", sentence):
        return sides[found[0]].ground == found[1]
    if found := match(rf"{IMAGES} (?:shows|show) an? (.*)\.", sentence):
        return (left.count(found[1]) > 0) + (right.count(found[1]) > 0) in IN_HOW_MANY[found[0]]
    if found := match(r"The (left|right) image shows an? (.*)\.", sentence):
        return sides[found[0]].count(found[1]) > 0
    if found := match(r"There is an? (.*) in the (left|right) image\.", sentence):
        return sides[found[1]].count(found[0]) > 0
    if found := match(r"The (left|right) image contains exactly (\w+) (.*)\.", sentence):
        return sides[found[0]].count(found[2]) == NUMBERS[found[1]]
    if found := match(r"There are (\w+) (.*) in total\.", sentence):
        return left.count(found[1]) + right.count(found[1]) == NUMBERS[found[0]]
    if found := match(r"There are more (.*) in the (left|right) image than in the (?:left|right) image\.", sentence):
        return more(sides, found[1], found[0])
    if found := match(r"The (left|right) image has more (.*)\.", sentence):
        return more(sides, found[0], found[1])
    if found := match(r"Both images have the same number of (.*)\.", sentence):
        return left.count(found[0]) == right.count(found[0])
    if found := match(rf"In one image, an? (.*) is {RELATION} an? (.*)\.", sentence):
        return any(
            thing != other and stands(thing, found[1], other)
            for seen in (left, right)
            for thing in seen.find(found[0])
            for other in seen.find(found[2])
        )
    raise AssertionError(f"no rule for {sentence!r}")


def more(sides: dict[str, Seen], side: str, words: str) -> bool:
    other = "left" if side == "right" else "right"
    return sides[side].count(words) > sides[other].count(words)


@pytest.fixture(scope="module")
def groups() -> list[Group]:
    return [sample_group(generator(3, "test", index)) for index in range(60)]


def test_labels_are_what_is_seen(groups: list[Group]) -> None:
    for group in groups:
        first, second = (statement.text for statement in group.statements)
        for (left, right), first_holds in zip(group.pairs, group.first_holds, strict=True):
            seen = see(left), see(right)
            assert holds(*seen, first) is first_holds, (first, seen)
            assert holds(*seen, second) is not first_holds, (second, seen)


def test_neither_a_sentence_nor_a_pair_tells_the_label(groups: list[Group]) -> None:
    """Each sentence is true of two pairs and false of two; each pair makes one sentence true and one false."""
    for group in groups:
        assert sorted(group.first_holds) == [False, False, True, True]
        scenes = [scene for pair in group.pairs for scene in pair]
        assert len(set(scenes)) == 8
    orders = {group.first_holds for group in groups}
    assert len(orders) == 6


def test_few_statements_depend_on_left_and_right_within_an_image(groups: list[Group]) -> None:
    """Training flips each image from left to right and leaves the sentence."""
    texts = [statement.text for group in groups for statement in group.statements]
    sideways = sum("to the left of" in text or "to the right of" in text for text in texts)
    assert sideways / len(texts) < 0.05
