"""VQA v2.0 on disk: the official questions and annotations, and the index files of the BEiT-3 code.

train2014/COCO_train2014_000000000009.jpg …      also val2014, test2015
                                                 of an image whose id is a text: train2014/<id>.jpg, or <id> alone when
                                                 that ends in .jpg, .jpeg or .png
vqa/v2_OpenEnded_mscoco_train2014_questions.json also val2014, test2015, test-dev2015
vqa/v2_mscoco_train2014_annotations.json         also val2014
vqa/rest_val_images.json                         a list of your own of validation images held out from training
vqa.train.jsonl, answer2label.txt                index files, a question per line with its text as token ids
"""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from backbones.errors import InputError
from tasks.adapter import Sample
from tasks.common.reading import RESTORE, field, read_json, read_lines
from tasks.common.streaming import json_list
from tasks.vqa.metrics import ANSWERS
from tasks.vqa.vocabulary import Vocabulary, most_frequent_answer

LABELLED = ("train2014", "val2014")
HELD_OUT_FILE = "vqa/rest_val_images.json"
HELD_OUT = 1000  # validation images, as in the official code
ImageId = int | str
_HELD_OUT_SEED = "BEiT-3 rest_val 0"


def questions_file(root: Path, part: str) -> Path:
    return root / "vqa" / f"v2_OpenEnded_mscoco_{part}_questions.json"


def annotations_file(root: Path, part: str) -> Path:
    return root / "vqa" / f"v2_mscoco_{part}_annotations.json"


def index_file(root: Path, name: str) -> Path:
    return root / f"vqa.{name}.jsonl"


class Question(NamedTuple):
    id: int
    image: ImageId
    text: str


class Annotation(NamedTuple):
    id: int  # of the question
    question_type: str
    answer_type: str  # "yes/no", "number" or "other"; empty where the file does not say (TextVQA, VizWiz)
    answers: list[str]  # as the people wrote them
    most_frequent: str


@dataclass(frozen=True)
class QuestionSet:
    """Questions of one image set, and their annotations where they are public."""

    name: str
    questions: Sequence[Question]
    annotations: Sequence[Annotation] | None

    def problems(self) -> list[str]:
        """What is wrong with it, a paragraph for each kind."""
        found = []
        asked = [question.id for question in self.questions]
        found += self._problem(_repeated(asked), "stand twice in the questions file")
        if self.annotations is None:
            return found
        answered = [annotation.id for annotation in self.annotations]
        found += self._problem(_repeated(answered), "stand twice in the annotations file")
        found += self._problem(_only_in(asked, answered), "have no annotation")
        found += self._problem(_only_in(answered, asked), "are annotated but not in the questions file")
        wrong = [entry.id for entry in self.annotations if len(entry.answers) != ANSWERS]
        return found + self._problem(wrong, f"have not {ANSWERS} answers, which the official accuracy needs")

    def _problem(self, ids: Sequence[int], what: str) -> list[str]:
        if not ids:
            return []
        named = f"{', '.join(map(str, ids[:5]))}{' …' if len(ids) > 5 else ''}"
        return [f"{self.name}: {len(ids):,} question(s) {what}: {named}. {RESTORE}"]

    def samples(self, vocabulary: Vocabulary | None) -> Iterator[Sample]:
        """In the order of the questions file.

        Raises:
            InputError: the part has problems.
        """
        for problem in self.problems():
            raise InputError(problem)
        paths = {image: self._path(image) for image in {question.image for question in self.questions}}
        annotations = {annotation.id: annotation for annotation in self.annotations or ()}
        for question in self.questions:
            inputs = {"image": paths[question.image], "text": question.text}
            if self.annotations is None:
                yield unlabelled(question.id, inputs, vocabulary)
            else:
                yield Sample(str(question.id), inputs, _truth(question, annotations[question.id], vocabulary))

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


def _repeated(ids: Iterable[Hashable]) -> list[Any]:
    return [number for number, count in Counter(ids).items() if count > 1]


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


def distinct(samples: Iterable[Sample], split: str) -> Iterator[Sample]:
    """The samples, of which no two may have one id.

    Raises:
        InputError: at the end, when two have; the message names them.
    """
    counts: Counter[str] = Counter()
    for sample in samples:
        counts[sample.id] += 1
        yield sample
    if repeated := [name for name, count in counts.items() if count > 1]:
        raise InputError(f"{len(repeated):,} question id(s) occur twice in {split}, such as {repeated[0]}. {RESTORE}")


def unlabelled(question: int, inputs: dict[str, Any], vocabulary: Vocabulary | None) -> Sample:
    """A test question; it carries the vocabulary, by which its submission is checked."""
    return Sample(str(question), inputs if vocabulary is None else {**inputs, "vocabulary": vocabulary}, None)


def read_part(root: Path, part: str) -> QuestionSet:
    """Questions and annotations of "train2014", "val2014", "test2015" or "test-dev2015", not checked for problems.

    Raises:
        InputError: a file is absent or not of the official form.
    """
    file = questions_file(root, part)
    rows = json_list(file, "questions", what="VQA v2.0 questions")
    questions = [_question(row, f"{file}, question {number} (from 0)") for number, row in enumerate(rows)]
    if part not in LABELLED:
        return QuestionSet(part, questions, None)
    file = annotations_file(root, part)
    rows = json_list(file, "annotations", what="VQA v2.0 annotations")
    annotations = [_annotation(row, f"{file}, annotation {number} (from 0)") for number, row in enumerate(rows)]
    return QuestionSet(part, questions, annotations)


def _question(row: Any, where: str) -> Question:
    text = field(row, "question", where=where)
    if not isinstance(text, str):
        raise InputError(f"{where} is no text: {text!r}. {RESTORE}")
    image = field(row, "image_id", where=where)
    if not isinstance(image, int | str):
        raise InputError(f"{where} has neither a whole number nor a text as 'image_id', but {image!r}. Fix it.")
    return Question(_number(row, "question_id", where), image, text)


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
    return Annotation(_number(row, "question_id", where), question_type, answer_type, answers, most_frequent)


def _number(row: Any, name: str, where: str) -> int:
    value = field(row, name, where=where)
    if not isinstance(value, int):
        raise InputError(f"{where} has no whole number as '{name}', but {value!r}. {RESTORE}")
    return value


def held_out_source(root: Path) -> Path | None:
    """The file that says which validation images are held out, when there is one."""
    return next((file for file in (index_file(root, "rest_val"), root / HELD_OUT_FILE) if file.is_file()), None)


def held_out_images(root: Path, images: Iterable[ImageId]) -> frozenset[ImageId]:
    """The validation images that BEiT-3's training set goes without.

    The official code draws them unseeded, so everyone's are others. Those of `vqa.rest_val.jsonl` when it is there;
    else the list `vqa/rest_val_images.json`; else 1,000 (at most half of all), always the same.

    Args:
        images: ids of all validation images.

    Raises:
        InputError: a list that is empty or names images that are not among them.
    """
    known = set(images)
    source = held_out_source(root)
    if source is not None:
        what = "held-out questions"
        if source.suffix == ".jsonl":
            ids = {_image_of(where, row) for where, row in read_lines(source, what=what)}
        else:
            ids = read_json(source, what=what)
        return _checked(ids, known, source)
    return frozenset(sorted(known, key=_draw)[: min(HELD_OUT, len(known) // 2)])


def _draw(image: ImageId) -> str:
    """A place in a lottery that no version of any random generator can change."""
    return hashlib.sha256(f"{_HELD_OUT_SEED} {image}".encode()).hexdigest()


def _checked(ids: Any, known: set[ImageId], file: Path) -> frozenset[ImageId]:
    if not isinstance(ids, list | set) or not ids or not all(isinstance(i, int) or i in known for i in ids):
        raise InputError(
            f"{file} should list the ids of the held-out images. Mend it, or remove it to have them chosen."
        )
    if foreign := sorted(set(ids) - known):
        raise InputError(
            f"{file} names {len(foreign):,} image(s) of which val2014 has no question, such as {foreign[0]}. Bring the "
            "list that belongs to these questions, or remove it to have the images chosen."
        )
    return frozenset(ids)


def read_index(root: Path, name: str, vocabulary: Vocabulary | None, *, labelled: bool) -> list[Sample]:
    """Samples of an index file, their texts as token ids.

    Raises:
        InputError: a line that is not of the official form, or a label that the vocabulary lacks.
    """
    samples = []
    for where, row in read_lines(index_file(root, name), what="an index of VQA questions"):
        inputs = {"image": str(field(row, "image_path", where=where)), "text": field(row, "text_segment", where=where)}
        question = _number(row, "qid", where)
        if labelled:
            truth = {"image": _image_of(where, row), "targets": _targets(row, where, vocabulary)}
            samples.append(Sample(str(question), inputs, truth))
        else:
            samples.append(unlabelled(question, inputs, vocabulary))
    return samples


def _targets(row: Any, where: str, vocabulary: Vocabulary) -> dict[str, float]:
    labels, scores = field(row, "labels", where=where), field(row, "scores", where=where)
    try:
        if min(labels, default=0) < 0:
            raise IndexError
        return {vocabulary.answers[label]: float(score) for label, score in zip(labels, scores, strict=True)}
    except (TypeError, ValueError, IndexError):
        raise InputError(
            f"{where}: labels {labels} with scores {scores} are not as many numbers each, with labels from 0 to "
            f"{len(vocabulary.answers) - 1} as answer2label.txt has them. Make the index files again, all at once."
        ) from None


def _image_of(where: str, row: Any) -> int:
    path = str(field(row, "image_path", where=where))
    number = Path(path).stem.rpartition("_")[2]
    if not number.isdecimal():
        raise InputError(f"{where}: image {path} is not named as COCO's are (COCO_val2014_000000000042.jpg).")
    return int(number)
