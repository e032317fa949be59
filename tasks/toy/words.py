"""Every kind of text that the toy set has, to make a tokenizer from."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.toy.captions import captions
from tasks.toy.questions import PALETTE, Interviewer
from tasks.toy.scene import generator
from tasks.toy.statements import sample_group
from tasks.toy.still_life import Palette, sample_still_life

ROUNDS = 3000


def sentences(rounds: int = ROUNDS) -> Iterator[str]:
    """Captions, questions with their answers, and statements, the same ones every time: five, three (twice) and two
    a round, from scenes that `tasks.toy.write` does not draw."""
    interviewer = Interviewer()
    for index in range(rounds):
        rng = generator(0, "words", index)
        yield from captions(rng, sample_still_life(rng, Palette()), 5)
        for question in interviewer.ask(rng, sample_still_life(rng, PALETTE), ("yes/no", "other", "number")):
            yield question.text
            yield question.answer
        yield from (statement.text for statement in sample_group(rng).statements)
