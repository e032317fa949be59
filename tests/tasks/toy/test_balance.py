"""Neither words nor pictures alone answer VQA questions: baselines that see one of them, learnt on all training data.

The most frequent answer of the answer's type is right for 51, 24 and 9 % (yes/no, number, other) of the validation
questions, 31 % of all. Logistic regression on the question's words gets 50, 23 and 25 % (they tell a color from a
pattern), 36 % of all; on the picture's colours 52, 35 (more things, more colour) and 18 % (one question in seven is
about the background).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tasks.toy import coco, instances
from tests.tasks.toy.baselines import colour_shares, logistic

pytestmark = pytest.mark.slow  # draws pictures

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The VQA questions in full number, with small pictures."""
    folder = tmp_path_factory.mktemp("toy")
    few = dict.fromkeys(instances.PARTS, 1)  # nothing is asked about them
    coco.write(folder, coco.SIZES | few, seed=0, image_size=32, progress=None)
    return folder


@pytest.fixture(scope="module")
def rows(folder: Path) -> dict[str, Rows]:
    found = {}
    for part in ("train2014", "val2014"):
        questions = json.loads((folder / "vqa" / f"v2_OpenEnded_mscoco_{part}_questions.json").read_text())["questions"]
        answers = json.loads((folder / "vqa" / f"v2_mscoco_{part}_annotations.json").read_text())["annotations"]
        found[part] = [question | answer for question, answer in zip(questions, answers, strict=True)]
    return found


def answers(rows: Rows) -> list[str]:
    return [row["multiple_choice_answer"] for row in rows]


def accuracy(train: Rows, val: Rows, key: str) -> float:
    """Of always the most frequent answer among the training questions of the same `key`."""
    known: dict[Any, Counter[str]] = {}
    for row in train:
        known.setdefault(row[key], Counter())[row["multiple_choice_answer"]] += 1
    guesses = [known[row[key]].most_common(1)[0][0] if row[key] in known else "" for row in val]
    return float(np.mean([guess == answer for guess, answer in zip(guesses, answers(val), strict=True)]))


def bag_of_words(rows: Rows, vocabulary: list[str]) -> np.ndarray:
    """Words and pairs of neighbours: [rows, vocabulary], 0 or 1."""
    asked = [terms(row["question"]) for row in rows]
    return np.array([[word in found for word in vocabulary] for found in asked], np.float32)


def terms(question: str) -> set[str]:
    words = re.findall(r"\w+", question.lower())
    return {*words, *(" ".join(pair) for pair in pairwise(words))}


def colour_histogram(folder: Path, part: str, rows: Rows) -> np.ndarray:
    """The share of each of 64 colours."""
    found = {}
    for image in {row["image_id"] for row in rows}:
        with Image.open(folder / part / f"COCO_{part}_{image:012d}.jpg") as picture:
            found[image] = colour_shares(np.asarray(picture))
    return np.stack([found[row["image_id"]] for row in rows])


def of_type(rows: Rows, answer_type: str) -> Rows:
    return [row for row in rows if row["answer_type"] == answer_type]


def test_no_answer_is_a_good_guess(rows: dict[str, Rows]) -> None:
    train, val = rows["train2014"], rows["val2014"]
    for answer_type, most in (("yes/no", 0.53), ("number", 0.28), ("other", 0.13)):
        assert accuracy(of_type(train, answer_type), of_type(val, answer_type), "answer_type") < most
        assert len(of_type(val, answer_type)) > 90
    assert accuracy(train, val, "question_type") < 0.34
    # The very same question is asked again and again, with other answers.
    assert accuracy(train, val, "question") < 0.34


def test_a_bag_of_words_answers_little(rows: dict[str, Rows]) -> None:
    train, val = rows["train2014"], rows["val2014"]
    for answer_type, most in (("yes/no", 0.55), ("number", 0.33), ("other", 0.29)):
        ours, theirs = of_type(train, answer_type), of_type(val, answer_type)
        vocabulary = sorted(set().union(*(terms(row["question"]) for row in ours)))
        found = logistic(
            bag_of_words(ours, vocabulary), answers(ours), bag_of_words(theirs, vocabulary), answers(theirs)
        )
        assert found < most, (answer_type, found)


def test_colours_of_the_picture_answer_little(folder: Path, rows: dict[str, Rows]) -> None:
    for answer_type, most in (("yes/no", 0.57), ("number", 0.4), ("other", 0.22)):
        ours, theirs = (of_type(rows[part], answer_type) for part in ("train2014", "val2014"))
        seen = colour_histogram(folder, "train2014", ours), colour_histogram(folder, "val2014", theirs)
        found = logistic(seen[0], answers(ours), seen[1], answers(theirs))
        assert found < most, (answer_type, found)


def test_every_answer_gets_into_the_vocabulary(rows: dict[str, Rows]) -> None:
    """Official rule: at least nine times the most frequent answer of a question in train and val."""
    counts = Counter(answers(rows["train2014"]) + answers(rows["val2014"]))
    assert min(counts.values()) >= 9
    assert len(counts) > 30
