"""The official VQA accuracy, and BEiT-3's soft score.

Source: Antol et al., VQA: Visual Question Answering, ICCV 2015, in the form of GT-Vision-Lab/VQA's vqaEval.py; the
quirks of that file are kept, and said where they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from backbones.errors import InputError
from tasks.bootstrap import Measurement, mean, unavailable
from tasks.vqa.normalization import normalize_word
from tasks.vqa.question_set import ANSWER_TYPES


def measure(answers: Sequence[str], truths: Sequence[Mapping[str, Any]]) -> list[Measurement]:
    """`accuracy`, overall and by answer type, and `soft_score`; the unit is the image, with all its questions.

    Args:
        answers: one for each question.
        truths: annotations of the questions in the same order, see `tasks.vqa.annotations.read_samples`.
    """
    return [*_accuracies(answers, truths), _soft_score(answers, truths)]


def answer_of(record: Mapping[str, Any], question: str) -> str:
    """The predicted answer of a record.

    Raises:
        InputError: it has none; the message names the question.
    """
    answer = record.get("answer")
    if not isinstance(answer, str):
        raise InputError(
            f"The prediction of question {question} has no text under 'answer' (found: {answer!r}). A record of this "
            'task is {"id": question id, "answer": "…"}.'
        )
    return answer


def _accuracies(answers: Sequence[str], truths: Sequence[Mapping[str, Any]]) -> list[Measurement]:
    """Official accuracy overall and by answer type."""
    names = ["accuracy", *(f"accuracy_{kind}" for kind in ANSWER_TYPES)]
    if any("answers" not in truth for truth in truths):
        reason = (
            "official accuracy needs each question's ten answers, and index files have none: put the official "
            "questions and annotations into the folder vqa beside them"
        )
        return [unavailable(name, reason, samples=len(truths)) for name in names]
    scored = [
        (accuracy(answer, truth["answers"]), truth["image"], truth["answer_type"])
        for answer, truth in zip(answers, truths, strict=True)
    ]
    measurements = []
    for name, kind in zip(names, (None, *ANSWER_TYPES), strict=True):
        chosen = [(value, image) for value, image, own in scored if kind in (None, own)]
        if chosen:
            values, images = zip(*chosen, strict=True)
            measurements.append(mean(name, values, units=images, proportion=True))
        else:
            measurements.append(unavailable(name, f"there is no question of answer type {kind}", samples=0))
    return measurements


def _soft_score(answers: Sequence[str], truths: Sequence[Mapping[str, Any]]) -> Measurement:
    """BEiT-3's own validation score; questions without an answer in the vocabulary are left out, as it does."""
    chosen = [
        (truth["targets"].get(answer, 0.0), truth["image"])
        for answer, truth in zip(answers, truths, strict=True)
        if truth.get("targets")
    ]
    if not chosen:
        reason = (
            "no question has an answer in the vocabulary, or there is none: it needs the annotations of train2014 and "
            "val2014, or answer2label.txt"
        )
        return unavailable("soft_score", reason, samples=len(truths))
    values, images = zip(*chosen, strict=True)
    return mean("soft_score", values, units=images, proportion=True)


def accuracy(answer: str, truth: Sequence[str]) -> float:
    """The official accuracy of one answer, in [0, 1].

    Each annotator in turn is left out, the answer earns min(matches among the others / 3, 1), and the mean counts.
    Answers are compared after normalisation, but as they are when all annotators agree: then "The yes" is not "yes".

    Args:
        truth: the annotators' answers, as they wrote them.
    """
    given = {text: _one_line(text) for text in set(truth)}
    answer = _one_line(answer)
    if len(set(given.values())) > 1:
        given = {text: normalize_word(line) for text, line in given.items()}
        answer = normalize_word(answer)
    matches = sum(truth.count(text) for text, form in given.items() if form == answer)
    return leave_one_out(matches, of=len(truth))


def _one_line(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


def leave_one_out(matches: int, *, of: int) -> float:
    """Mean over `of` annotators of min(matches among the others / 3, 1): 0, .3, .6, .9, 1 for 0 to 4 matches of ten."""
    without_a_match, without_another = min((matches - 1) / 3, 1), min(matches / 3, 1)
    return (matches * without_a_match + (of - matches) * without_another) / of
