"""Index files of the BEiT-3 code: a question per line with its text as token ids and its answers as soft labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from backbones.errors import InputError
from tasks.adapter import Sample
from tasks.common.reading import field, read_lines
from tasks.vqa.question_set import whole_number
from tasks.vqa.vocabulary import Vocabulary


def index_file(root: Path, name: str) -> Path:
    return root / f"vqa.{name}.jsonl"


def read_index(root: Path, name: str, vocabulary: Vocabulary | None, *, labelled: bool) -> list[Sample]:
    """Samples of an index file, their texts as token ids.

    Args:
        vocabulary: needed for labelled questions only.

    Raises:
        InputError: a line that is not of the official form, or a label that the vocabulary lacks.
    """
    samples = []
    for where, row in read_lines(index_file(root, name), what="an index of VQA questions"):
        image, text = (field(row, key, where=where) for key in ("image_path", "text_segment"))
        question = whole_number(row, "qid", where)
        truth = None
        if labelled:
            truth = {"image": image_of(where, row), "targets": _targets(row, where, vocabulary)}
        samples.append(Sample(str(question), {"image": str(image), "text": text}, truth))
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


def image_of(where: str, row: Any) -> int:
    """Id of a line's image, from its file name.

    Raises:
        InputError: it is not named as COCO's are.
    """
    path = str(field(row, "image_path", where=where))
    number = Path(path).stem.rpartition("_")[2]
    if not number.isdecimal():
        raise InputError(f"{where}: image {path} is not named as COCO's are (COCO_val2014_000000000042.jpg).")
    return int(number)
