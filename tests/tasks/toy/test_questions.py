"""Questions have the answer that is seen, and ten people mostly agree on it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tasks.toy.answers import ten_answers
from tasks.toy.questions import PALETTE, Interviewer, Question
from tasks.toy.scene import generator
from tasks.toy.still_life import sample_still_life
from tests.tasks.toy.seeing import RELATION, Seen, match, see, stands

pytestmark = pytest.mark.slow  # draws pictures

ALL_TYPES = ("yes/no", "other", "number")


def answer(seen: Seen, question: str) -> str:
    """The answer as a person would find it."""
    if found := match(r"Is there an? (.*)\?", question) or match(r"Are there any (.*)\?", question):
        return yes(seen.count(found[0]) > 0)
    if found := match(r"Is the background (.*)\?", question):
        return yes(seen.ground == found[0])
    if found := match(r"Is the (\w+) large or small\?", question):
        return "large" if "large" in seen.one(found[0]).words else "small"
    if found := match(rf"Is the (.*) {RELATION} the (.*)\?", question):
        return yes(stands(seen.one(found[0]), found[1], seen.one(found[2])))
    if found := match(r"Is the (\w+) larger than the (\w+)\?", question):
        first, second = (seen.one(words).words for words in found)
        return yes("large" in first and "small" in second)
    if found := match(r"Is the (\w+) (\w+)\?", question):
        return yes(seen.one(found[0]).colour == found[1])
    if found := match(r"Are there more (.*) than (.*)\?", question):
        return yes(seen.count(found[0]) > seen.count(found[1]))
    if found := match(r"Are the (.*) and the (.*) the same color\?", question):
        return yes(seen.one(found[0]).colour == seen.one(found[1]).colour)
    if found := match(r"How many (.*) (?:are there|are in the picture)\?", question):
        return str(seen.count(found[0]))
    if question == "What color is the background?":
        return seen.ground
    if found := match(rf"What (is|color is the thing) {RELATION} the (.*)\?", question):
        thing = seen.one(found[2])
        (other,) = [other for other in seen.things if other != thing and stands(other, found[1], thing)]
        return other.shape if found[0] == "is" else other.colour
    if found := match(r"What color (?:is|are) the (.*)\?", question):
        (colour,) = {thing.colour for thing in seen.find(found[0])}
        return colour
    if found := match(r"What shape is the (.*)\?", question):
        return seen.one(found[0]).shape
    if found := match(r"What pattern does the (.*) have\?", question):
        (pattern,) = seen.one(found[0]).words & {"plain", "striped", "dotted", "checkered"}
        return pattern
    raise AssertionError(f"no rule for {question!r}")


def yes(holds: bool) -> str:
    return "yes" if holds else "no"


@pytest.fixture(scope="module")
def asked() -> list[tuple[Seen, Question]]:
    interviewer, found = Interviewer(), []
    for index in range(400):
        rng = generator(5, "test", index)
        scene = sample_still_life(rng, PALETTE)
        seen = see(scene)
        questions = interviewer.ask(rng, scene, ALL_TYPES)
        assert len({question.text for question in questions}) == len(ALL_TYPES)
        found += [(seen, question) for question in questions]
    return found


def test_answers_are_what_is_seen(asked: list[tuple[Seen, Question]]) -> None:
    for seen, question in asked:
        assert answer(seen, question.text) == question.answer, (question, seen)
        assert question.answer in question.answers


def test_answers_of_a_question_are_balanced(asked: list[tuple[Seen, Question]]) -> None:
    """For every template: no answer is more than a few uses ahead of another."""
    uses: dict[tuple[str, ...], Counter[str]] = {}
    for _, question in asked:
        opening = question.text.replace(" an ", " a ").replace("?", "").split()
        uses.setdefault((question.answer_type, *opening[:2]), Counter())[question.answer] += 1
    assert len(uses) >= 8
    for (kind, *_), counts in uses.items():
        if kind == "yes/no":
            assert abs(counts["yes"] - counts["no"]) <= 8, counts
        else:
            assert max(counts.values()) <= 4 * min(counts.values()) + 8, counts


def test_question_types_are_official_ones(asked: list[tuple[Seen, Question]], truth: Path) -> None:
    rows = json.loads((truth / "vqa" / "vqav2sub_valid_annotations.json").read_text())["annotations"]
    official = {row["question_type"] for row in rows}
    for question_type in {question.question_type for _, question in asked}:
        assert question_type in official
    for _, question in asked:
        openings = [name for name in official if question.text.lower().startswith(name + " ")]
        assert question.question_type == max(openings, key=len), question


def test_ten_people_mostly_agree() -> None:
    given = Counter()
    for index in range(300):
        people = ten_answers(generator(0, "people", index), "2", ("1", "2", "3"))
        assert [person["answer_id"] for person in people] == list(range(1, 11))
        assert {person["answer_confidence"] for person in people} <= {"yes", "maybe", "no"}
        counts = Counter(person["answer"] for person in people)
        assert [text for text, count in counts.items() if count == max(counts.values())] == ["2"]
        given += counts
    assert set(given) == {"1", "2", "3", "two"}
    shares = np.array([given[text] for text in ("2", "two", "1", "3")]) / given.total()
    assert 0.7 < shares[0] < 0.9 and shares[1] > 0.08 and (shares[2:] > 0.01).all()


def test_people_write_as_they_like() -> None:
    shapes = {
        person["answer"]
        for index in range(60)
        for person in ten_answers(generator(1, "people", index), "ring", ("ring", "star"))
    }
    assert shapes == {"ring", "donut", "a ring", "star"}
    yes_no = {
        person["answer"]
        for index in range(60)
        for person in ten_answers(generator(2, "people", index), "yes", ("yes", "no"))
    }
    assert yes_no == {"yes", "Yes", "no"}
