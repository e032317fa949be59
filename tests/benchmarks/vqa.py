"""Scoring VQA v2.0's validation set: `harness score vqav2 --split val` on made-up answers of the real size.

214,354 questions on 40,504 images with ten answers each, and 443,757 training annotations, from which the answer
vocabulary is made. The command runs in a process of its own; its time and its largest memory are taken, reading
included. The exit status is 1 when it takes more than 20 s or 2 GiB.

    python -m tests.benchmarks.vqa

Last figures:
    Two cores of an AMD EPYC, idle: 14.7 s, 1.50 GiB. Half of it goes into parsing 0.6 GB of JSON, 2 s into importing
    PyTorch, 1 s each into hashing the samples and the bootstrap.
"""

from __future__ import annotations

import contextlib
import json
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tasks.vqa.vqav2 import OFFICIAL_SIZES
from tests.benchmarks import child
from tests.benchmarks.report import Report, arguments

SECONDS, GIBIBYTES = 20, 2
IMAGES = 40_504
WORDS = [f"{colour} {thing}" for colour in ("red", "blue", "green", "the white") for thing in range(1000)]


def write(root: Path, *, questions: int, training: int, images: int) -> Path:
    """Official files of made-up content under `root`; returns a predictions file of `val`."""
    (root / "vqa").mkdir(parents=True)
    rng = random.Random(0)
    _write_part(root / "vqa", "train2014", training, images=images, first=1_000_000, rng=rng)
    _write_part(root / "vqa", "val2014", questions, images=images, first=1, rng=rng)
    predictions = root / "predictions.jsonl"
    with predictions.open("w") as lines:
        for number in range(questions):
            record = {"id": str(_question_id(number, images, 1)), "answer": rng.choice(WORDS[:40]), "score": 0.5}
            lines.write(json.dumps(record) + "\n")
    return predictions


def _question_id(number: int, images: int, first: int) -> int:
    return (first + number % images) * 1000 + number // images


def _write_part(folder: Path, part: str, count: int, *, images: int, first: int, rng: random.Random) -> None:
    with (
        (folder / f"v2_OpenEnded_mscoco_{part}_questions.json").open("w") as questions,
        (folder / f"v2_mscoco_{part}_annotations.json").open("w") as annotations,
    ):
        questions.write('{"questions": [')
        annotations.write('{"annotations": [')
        for number in range(count):
            comma = ", " if number else ""
            ids = {"image_id": first + number % images, "question_id": _question_id(number, images, first)}
            questions.write(comma + json.dumps({**ids, "question": f"What is number {number} in this picture?"}))
            annotations.write(comma + json.dumps({**ids, **_answers(rng)}))
        questions.write("]}")
        annotations.write("]}")


def _answers(rng: random.Random) -> dict:
    """Three different answers a question in the mean, as in the real set, those of the minority mostly rare ones."""
    most = WORDS[int(len(WORDS) * rng.random() ** 3)]
    agreeing = rng.choice((1, 1, 0.9, 0.7, 0.3))
    given = [most if rng.random() < agreeing else f"{rng.choice(WORDS)} {rng.randrange(20)}" for _ in range(10)]
    return {
        "question_type": "what is",
        "answer_type": rng.choice(("yes/no", "number", "other")),
        "multiple_choice_answer": most,
        "answers": [
            {"answer": text, "answer_confidence": "yes", "answer_id": person} for person, text in enumerate(given, 1)
        ],
    }


def measure(*, questions: int, training: int, images: int) -> Report:
    """Score once and report time and memory."""
    with tempfile.TemporaryDirectory() as folder:
        predictions = write(Path(folder) / "coco", questions=questions, training=training, images=images)
        row = _score(predictions, Path(folder) / "coco")
    return Report(
        title=f"harness score vqav2 --split val: {questions:,} questions",
        rows=[{"questions": questions, **row}],
        missed=missed(row["seconds"], row["peak memory (GiB)"]),
    )


def missed(seconds: float, gibibytes: float) -> list[str]:
    """The targets that are missed."""
    found = [f"{seconds:.1f} s, target {SECONDS} s"] if seconds > SECONDS else []
    return found + ([f"{gibibytes:.2f} GiB, target {GIBIBYTES} GiB"] if gibibytes > GIBIBYTES else [])


def _score(predictions: Path, data: Path) -> dict[str, float]:
    """Cost of the command: the processor's time too, which a busy machine stretches less."""
    command = [sys.executable, "-m", "harness", "score", "vqav2", str(predictions), "--data", str(data)]
    taken = child.run([*command, "--split", "val", "--json"])
    return {
        "seconds": taken.seconds,
        "of the processor": taken.processor,
        "peak memory (GiB)": taken.peak / 2**30,
        "metrics": sum(row["value"] is not None for row in json.loads(taken.output)),
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = arguments(__doc__)
    parser.add_argument("--questions", type=int, default=OFFICIAL_SIZES["val2014"])
    parser.add_argument("--training", type=int, default=OFFICIAL_SIZES["train2014"], help="training annotations")
    parser.add_argument("--images", type=int, default=IMAGES)
    args = parser.parse_args(argv)
    with contextlib.redirect_stdout(sys.stderr):
        report = measure(questions=args.questions, training=args.training, images=args.images)
    return report.show(args.json)


if __name__ == "__main__":
    sys.exit(main())
