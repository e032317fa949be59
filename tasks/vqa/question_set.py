"""The official questions and annotations of VQA v2.0, one image set at a time."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from backbones.errors import InputError
from tasks.adapter import Sample
from tasks.common.reading import RESTORE, Remembered, field, listed, repeated
from tasks.common.streaming import json_list
from tasks.vqa.vocabulary import Vocabulary, most_frequent_answer

LABELLED = ("train2014", "val2014")
ANSWERS = 10  # to each question, one of each annotator
ANSWER_TYPES = ("yes/no", "number", "other")
ImageId = int | str


def questions_file(root: Path, name: str) -> Path:
    return root / "vqa" / f"v2_OpenEnded_mscoco_{name}_questions.json"


def annotations_file(root: Path, name: str) -> Path:
    return root / "vqa" / f"v2_mscoco_{name}_annotations.json"


class Question(NamedTuple):
    id: int
    image: ImageId
    text: str


class Annotation(NamedTuple):
    id: int  # of the question
    question_type: str
    answer_type: str  # "yes/no", "number" or "other"; empty where the file does not say (TextVQA, VizWiz)
    answers: list[str]  # as the annotators wrote them
    most_frequent: str


@dataclass(frozen=True)
class QuestionSet:
    """Questions of one image set, and their annotations where they are public."""

    name: str
    questions: Sequence[Question]
    annotations: Sequence[Annotation] | None

    def problems(self) -> list[str]:
        """Faults of the set, a paragraph for each kind."""
        found = []
        asked = [question.id for question in self.questions]
        found += self._problem(repeated(asked), "appear twice in the questions file")
        if self.annotations is None:
            return found
        answered = [annotation.id for annotation in self.annotations]
        found += self._problem(repeated(answered), "appear twice in the annotations file")
        found += self._problem(_only_in(asked, answered), "have no annotation")
        found += self._problem(_only_in(answered, asked), "are annotated but not in the questions file")
        wrong = [entry.id for entry in self.annotations if len(entry.answers) != ANSWERS]
        return found + self._problem(wrong, f"do not have {ANSWERS} answers, which the official accuracy needs")

    def _problem(self, ids: Sequence[int], what: str) -> list[str]:
        if not ids:
            return []
        return [f"{self.name}: {len(ids):,} question(s) {what}: {listed(ids)}. {RESTORE}"]

    def samples(self, vocabulary: Vocabulary | None) -> Iterator[Sample]:
        """Samples in the order of the questions file; see `tasks.vqa.annotations.read_samples`.

        Raises:
            InputError: the set has problems.
        """
        for problem in self.problems():
            raise InputError(problem)
        paths = {image: self._path(image) for image in {question.image for question in self.questions}}
        annotations = {annotation.id: annotation for annotation in self.annotations or ()}
        for question in self.questions:
            inputs = {"image": paths[question.image], "text": question.text}
            truth = None if self.annotations is None else _truth(question, annotations[question.id], vocabulary)
            yield Sample(str(question.id), inputs, truth)

    def image_paths(self) -> list[str]:
        """Every image that a question is about, relative to the data folder."""
        return [self._path(image) for image in sorted({question.image for question in self.questions}, key=_by_number)]

    def _path(self, image: ImageId) -> str:
        folder = self.name.replace("test-dev", "test")
        if isinstance(image, str):
            return f"{folder}/{image}" if image.lower().endswith((".jpg", ".jpeg", ".png")) else f"{folder}/{image}.jpg"
        return f"{folder}/COCO_{folder}_{image:012d}.jpg"


def _by_number(image: ImageId) -> tuple[bool, ImageId]:
    return isinstance(image, str), image


def _only_in(ids: Iterable[int], others: Iterable[int]) -> list[int]:
    known = set(others)
    return [number for number in ids if number not in known]


def _truth(question: Question, annotation: Annotation, vocabulary: Vocabulary | None) -> dict[str, Any]:
    truth = {
        "image": question.image,
        "question_type": annotation.question_type,
        "answer_type": annotation.answer_type,
        "answers": annotation.answers,
    }
    return truth if vocabulary is None else {**truth, "targets": vocabulary.targets(annotation.answers)}


def read_question_set(root: Path, name: str) -> QuestionSet:
    """Questions and annotations of "train2014", "val2014", "test2015" or "test-dev2015", not checked for problems.

    Raises:
        InputError: a file is absent or not of the official form.
    """
    questions = _questions(questions_file(root, name))
    return QuestionSet(name, questions, _annotations(annotations_file(root, name)) if name in LABELLED else None)


def _read_questions(file: Path) -> list[Question]:
    rows = json_list(file, "questions", what="VQA v2.0 questions")
    return [_question(row, f"{file}, question {index} (from 0)") for index, row in enumerate(rows)]


def _read_annotations(file: Path) -> list[Annotation]:
    rows = json_list(file, "annotations", what="VQA v2.0 annotations")
    return [_annotation(row, f"{file}, annotation {index} (from 0)") for index, row in enumerate(rows)]


_questions = Remembered(_read_questions)
_annotations = Remembered(_read_annotations)


def _question(row: Any, where: str) -> Question:
    text = field(row, "question", where=where)
    if not isinstance(text, str):
        raise InputError(f"{where} is not a text: {text!r}. {RESTORE}")
    image = field(row, "image_id", where=where)
    if not isinstance(image, int | str):
        raise InputError(f"{where} has neither a whole number nor a text as 'image_id', but {image!r}. Fix it.")
    return Question(whole_number(row, "question_id", where), image, text)


def _annotation(row: Any, where: str) -> Annotation:
    answers = field(row, "answers", where=where)
    if isinstance(answers, list):
        # By their texts alone; most of the two million are among a few thousand.
        texts = (answer.get("answer") if isinstance(answer, dict) else answer for answer in answers)
        answers = [sys.intern(text) if isinstance(text, str) else text for text in texts]
    if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
        raise InputError(f"{where} has no list of answers under 'answers': {str(answers)[:80]}. {RESTORE}")
    question_type, answer_type = (sys.intern(str(row.get(name, ""))) for name in ("question_type", "answer_type"))
    most_frequent = sys.intern(most_frequent_answer(row, where=where))
    return Annotation(whole_number(row, "question_id", where), question_type, answer_type, answers, most_frequent)


def whole_number(row: Any, name: str, where: str) -> int:
    """A field of an annotation that is a whole number.

    Raises:
        InputError: it is absent or another value; the message says where.
    """
    value = field(row, name, where=where)
    if not isinstance(value, int):
        raise InputError(f"{where} has no whole number as '{name}', but {value!r}. {RESTORE}")
    return value
