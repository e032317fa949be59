"""The ten answers of a VQAv2 annotation: people who mostly agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from tasks.toy.phrases import NUMBERS, article
from tasks.toy.scene import pick
from tasks.toy.shapes import SHAPES

PEOPLE = 10
SYNONYMS = {
    "checkered": "checks", "crescent": "moon", "cross": "plus", "dotted": "dots", "gray": "grey", "large": "big",
    "plain": "none", "purple": "violet", "ring": "donut", "small": "little", "striped": "stripes", "teal": "turquoise",
    **{str(number): NUMBERS[number] for number in range(1, 6)},
}  # fmt: skip
WAYS = ("same", "reworded", "otherwise written", "wrong")
SHARES = (0.76, 0.12, 0.06, 0.06)
CONFIDENCES = ("yes", "maybe", "no")


def ten_answers(rng: np.random.Generator, answer: str, answers: Sequence[str]) -> list[dict[str, Any]]:
    """Ten answers in VQAv2's form, of which `answer` is the most frequent.

    Args:
        answers: the possible answers to the question; a wrong one is another of them.
    """
    while True:
        given = [_given(rng, answer, answers) for _ in range(PEOPLE)]
        counts = Counter(text for text, _ in given).most_common(2)
        if counts[0][0] == answer and (len(counts) == 1 or counts[0][1] > counts[1][1]):
            return [
                {"answer": text, "answer_confidence": confidence, "answer_id": number}
                for number, (text, confidence) in enumerate(given, 1)
            ]


def _given(rng: np.random.Generator, answer: str, answers: Sequence[str]) -> tuple[str, str]:
    """One annotator's answer, and how sure of it they are."""
    way = WAYS[rng.choice(len(WAYS), p=SHARES)]
    if way == "wrong":
        return pick(rng, [other for other in answers if other != answer]), pick(rng, CONFIDENCES)
    confidence = CONFIDENCES[rng.choice(3, p=(0.82, 0.15, 0.03))]
    if way == "reworded":
        return SYNONYMS.get(answer, answer), confidence
    if way == "otherwise written":
        return article(answer) if answer in SHAPES else answer.capitalize(), confidence
    return answer, confidence
