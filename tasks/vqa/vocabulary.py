"""The answer vocabulary of VQA models, and the soft labels of answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from backbones.errors import InputError
from tasks.common.reading import Remembered, field, read_lines
from tasks.common.streaming import json_list
from tasks.vqa.normalization import normalize_word

LABEL_FILE = "answer2label.txt"
MIN_OCCURRENCES = 9  # of an answer, to enter the vocabulary
_SOFT_LABELS = {1: 0.3, 2: 0.6, 3: 0.9}  # by how many annotators gave the answer; 1 from four on


@dataclass(frozen=True)
class Vocabulary:
    """Answers by id."""

    answers: tuple[str, ...]

    @cached_property
    def ids(self) -> dict[str, int]:
        return {answer: number for number, answer in enumerate(self.answers)}

    def targets(self, given: Sequence[str]) -> dict[str, float]:
        """BEiT-3's soft labels in (0, 1] of the given answers that are in the vocabulary.

        Answers are looked up as the annotators wrote them, as in the official code: "two" earns nothing for "2".
        """
        ids = self.ids
        return {answer: _SOFT_LABELS.get(given.count(answer), 1.0) for answer in dict.fromkeys(given) if answer in ids}


def has_vocabulary(root: Path, sources: Iterable[Path]) -> bool:
    """Check that `read_vocabulary` finds its files."""
    return (root / LABEL_FILE).is_file() or all(file.is_file() for file in sources)


def read_vocabulary(
    root: Path, sources: Iterable[Path], *, known: Mapping[Path, Iterable[str]] | None = None
) -> Vocabulary:
    """The vocabulary of a data folder: `answer2label.txt` when it is there, else made from the annotations.

    Made as in the official code, so that the ids are those of the released heads: the most frequent answer to each
    question, normalised; those that occur nine times or more, in the order of their first appearance.

    Args:
        sources: the training set's annotation file, then the validation set's.
        known: each question's most frequent answer in those of the files that are read already.

    Raises:
        InputError: a file is absent or wrong, or no answer is frequent enough.
    """
    if (root / LABEL_FILE).is_file():
        return _label_file(root / LABEL_FILE)
    files, known = list(sources), known or {}
    if absent := [str(file) for file in files if not file.is_file()]:
        raise InputError(
            f"The answers to choose from are made of the annotations, of which {' and '.join(absent)} is absent. Put "
            f"it there, or an {LABEL_FILE} into {root}."
        )
    counts: Counter[str] = Counter()
    for file in files:
        if file in known:
            _counts.keep(file, _counted(known[file]))
        counts.update(_counts(file))
    answers = tuple(answer for answer, count in counts.items() if count >= MIN_OCCURRENCES)
    if not answers:
        raise InputError(
            f"No answer occurs {MIN_OCCURRENCES} times in {' and '.join(map(str, files))}, so there is nothing to "
            f"choose from. Put the complete files there, or an {LABEL_FILE} into {root}."
        )
    return Vocabulary(answers)


def _counted(answers: Iterable[str]) -> Counter[str]:
    """Counts of the answers, normalised, in the order of their first appearance."""
    return Counter(map(normalize_word, answers))


def _most_frequent_answers(file: Path) -> Iterator[str]:
    for number, row in enumerate(json_list(file, "annotations", what="VQA v2.0 annotations")):
        yield most_frequent_answer(row, where=f"{file}, annotation {number} (from 0)")


def most_frequent_answer(row: Any, *, where: str) -> str:
    """The `multiple_choice_answer` of an annotation; where the file has none, the most frequent of its answers.

    Raises:
        InputError: it has neither.
    """
    answer = row.get("multiple_choice_answer") if isinstance(row, dict) else None
    if answer is None:
        given = field(row, "answers", where=where)
        texts = [each.get("answer") if isinstance(each, dict) else each for each in given]
        answer = Counter(texts).most_common(1)[0][0] if texts else None
    if not isinstance(answer, str):
        raise InputError(f"{where} has no text as 'multiple_choice_answer'. Fix the file.")
    return answer


_counts = Remembered(lambda file: _counted(_most_frequent_answers(file)))


def _read_label_file(file: Path) -> Vocabulary:
    answers: dict[str, None] = {}
    for where, row in read_lines(file, what="the answers by label"):
        answer, label = field(row, "answer", where=where), field(row, "label", where=where)
        if label != len(answers) or not isinstance(answer, str) or answer in answers:
            raise InputError(
                f"{where} should have the label {len(answers)} and a new answer, not {label!r} and {answer!r}: labels "
                "count the lines from 0, and the head's outputs are in their order. Restore the file, or remove it to "
                "make the vocabulary from the annotations."
            )
        answers[answer] = None
    if not answers:
        raise InputError(f"{file} is empty. Restore it, or remove it to make the vocabulary from the annotations.")
    return Vocabulary(tuple(answers))


_label_file = Remembered(_read_label_file)
