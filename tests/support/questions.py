"""Small VQA v2.0 sets in the official layout."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = ("red", "green", "blue")


def image_name(part: str, image: int) -> str:
    folder = part.replace("test-dev", "test")
    return f"{folder}/COCO_{folder}_{image:012d}.jpg"


def question_row(question: int, text: str) -> dict:
    return {"image_id": question // 1000, "question": text, "question_id": question}


def annotation_row(question: int, answers: Sequence[str], *, kind: str = "other", most: str | None = None) -> dict:
    return {
        "question_type": "what",
        "multiple_choice_answer": most or max(answers, key=list(answers).count),
        "answers": [
            {"answer": text, "answer_confidence": "yes", "answer_id": person} for person, text in enumerate(answers, 1)
        ],
        "image_id": question // 1000,
        "answer_type": kind,
        "question_id": question,
    }


def write_questions(root: Path, part: str, rows: Sequence[dict]) -> None:
    (root / "vqa").mkdir(parents=True, exist_ok=True)
    (root / "vqa" / f"v2_OpenEnded_mscoco_{part}_questions.json").write_text(json.dumps({"questions": list(rows)}))


def write_annotations(root: Path, part: str, rows: Sequence[dict]) -> None:
    (root / "vqa").mkdir(parents=True, exist_ok=True)
    (root / "vqa" / f"v2_mscoco_{part}_annotations.json").write_text(json.dumps({"annotations": list(rows)}))


def write_labels(root: Path, answers: Sequence[str]) -> None:
    lines = [json.dumps({"answer": answer, "label": label}) for label, answer in enumerate(answers)]
    (root / "answer2label.txt").write_text("\n".join(lines) + "\n")


def write_index(root: Path, name: str, rows: Sequence[dict]) -> None:
    (root / f"vqa.{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def draw(root: Path, part: str, images: Sequence[int]) -> None:
    """Noise with one strong channel, which the questions are about."""
    rng = np.random.default_rng(0)
    for image in images:
        pixels = rng.integers(0, 120, (24, 30, 3))
        pixels[..., image % 3] += 120
        path = root / image_name(part, image)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(path)


def asked(images: Sequence[int]) -> list[dict]:
    """Three questions on each image."""
    texts = ("What colour is it?", "Is it red?", "How many pictures are there?")
    return [question_row(image * 1000 + number, text) for image in images for number, text in enumerate(texts)]


def answered(images: Sequence[int]) -> list[dict]:
    """Their annotations: nine people agree on the colour, all on yes or no, and six of ten write the number as "1"."""
    rows = []
    for image in images:
        colour = COLOURS[image % 3]
        rows += [
            annotation_row(image * 1000, [*[colour] * 9, f"A {colour.upper()}!"]),
            annotation_row(image * 1000 + 1, ["yes" if image % 3 == 0 else "no"] * 10, kind="yes/no"),
            annotation_row(image * 1000 + 2, [*["1"] * 6, *["one"] * 4], kind="number"),
        ]
    return rows


TRAIN, VAL, TEST, TEST_DEV = range(300, 324), range(600, 614), range(900, 905), range(900, 903)
VOCABULARY = ("red", "yes", "1", "green", "no", "blue")  # in the order of their first appearance


def colour_questions(root: Path) -> Path:
    """24 training, 14 validation and 5 test images, three questions on each; test-dev is on 3 of the test images."""
    for part, images in (("train2014", TRAIN), ("val2014", VAL), ("test2015", TEST), ("test-dev2015", TEST_DEV)):
        draw(root, part, images)
        write_questions(root, part, asked(images))
        if not part.startswith("test"):
            write_annotations(root, part, answered(images))
    return root
