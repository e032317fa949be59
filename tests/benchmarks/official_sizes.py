"""Annotation files with as many samples as the official ones, made of chance; no images."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path

WORDS = ("a", "man", "riding", "wave", "on", "top", "of", "surfboard", "two", "dogs", "kitchen", "red", "the", "with")
ANSWERS = ("yes", "no", "2", "red", "tennis", "frisbee", "on the table", "white and black")
COORDINATES = 48  # of a mask on average, as in COCO's instances_train2017.json
MANY = 2_000  # pieces of text that the files are put together from


def vqa(root: Path, scale: float) -> None:
    """Questions and annotations of train2014 and val2014."""
    (root / "vqa").mkdir(parents=True)
    rng = random.Random(0)
    answers = [_answers(rng) for _ in range(MANY)]
    for part, questions, images, start in (("train2014", 443_757, 82_783, 1), ("val2014", 214_354, 40_504, 10**6)):
        count, per_image = int(questions * scale), questions / images
        ids = [(start + int(n / per_image), (start + int(n / per_image)) * 1000 + n % 1000) for n in range(count)]
        _write(
            root / "vqa" / f"v2_OpenEnded_mscoco_{part}_questions.json",
            {
                "questions": (
                    f'{{"image_id": {image}, "question": "{_sentence(rng, 7)}?", "question_id": {question}}}'
                    for image, question in ids
                )
            },
        )
        _write(
            root / "vqa" / f"v2_mscoco_{part}_annotations.json",
            {
                "annotations": (
                    f'{{"question_type": "what is", {rng.choice(answers)}, "image_id": {image}, '
                    f'"answer_type": "other", "question_id": {question}}}'
                    for image, question in ids
                )
            },
        )


def imagenet(root: Path, scale: float) -> None:
    """The official index files."""
    root.mkdir(parents=True)
    for split, count in (("train", 1_281_167), ("val", 50_000)):
        with (root / f"imagenet.{split}.index.jsonl").open("w") as file:
            for n in range(max(int(count * scale), 1000)):
                path = f"{split}/n{n % 1000:08d}/n{n % 1000:08d}_{n:08d}.JPEG"
                file.write(f'{{"image_path": "{path}", "label": {n % 1000}}}\n')


def captions(root: Path, scale: float) -> None:
    """Karpathy's split of COCO: 123,287 images with five sentences each."""
    root.mkdir(parents=True)
    rng = random.Random(0)
    splits = [("train", 82_783), ("restval", 30_504), ("val", 5_000), ("test", 5_000)]
    rows = (
        _captioned(rng, 1 + n + 1_000_000 * place, split)
        for place, (split, count) in enumerate(splits)
        for n in range(int(count * scale))
    )
    _write(root / "dataset_coco.json", {"images": rows})


def coco(root: Path, scale: float) -> None:
    """Boxes and masks: 118,287 images with 860,001 objects, and 5,000 with 36,781."""
    rng = random.Random(0)
    masks = [_polygon(rng) for _ in range(MANY)]
    sizes = {"train": (118_287, 860_001), "val": (5_000, 36_781)}
    _instances(root, scale, sizes, categories=80, mask=lambda: f', "segmentation": [[{rng.choice(masks)}]]')


def objects365(root: Path, scale: float) -> None:
    """Boxes alone: 1,742,292 images with 25,407,598 objects (version 2); 5,000 images to validate on."""
    sizes = {"train": (1_742_292, 25_407_598), "val": (5_000, 75_000)}
    _instances(root, scale, sizes, categories=365, mask=lambda: "")


# The file's writer, the task and the recipe's changes, by the name of a set.
SETS: dict[str, tuple[Callable[[Path, float], None], str, tuple[str, ...]]] = {
    "vqa": (vqa, "vqav2", ()),
    "imagenet": (imagenet, "imagenet", ()),
    "captions": (captions, "coco_captioning", ()),
    "retrieval": (captions, "coco_retrieval", ()),
    "coco": (coco, "coco_detection", ()),
    "objects365": (objects365, "coco_detection", ("masks=false",)),
}


def _instances(
    root: Path, scale: float, sizes: dict[str, tuple[int, int]], *, categories: int, mask: Callable[[], str]
) -> None:
    (root / "annotations").mkdir(parents=True)
    rng = random.Random(1)
    boxes = [", ".join(f"{rng.uniform(1, 300):.2f}" for _ in range(4)) for _ in range(MANY)]
    for split, (images, objects) in sizes.items():
        images, objects = int(images * scale), int(objects * scale)
        _write(
            root / "annotations" / f"instances_{split}2017.json",
            {
                "images": (
                    f'{{"license": 3, "file_name": "{n:012d}.jpg", "coco_url": "http://images.example/{n:012d}.jpg", '
                    f'"height": 480, "width": 640, "date_captured": "2013-11-14 17:02:52", "id": {n}}}'
                    for n in range(images)
                ),
                # Objects of one image do not stand together.
                "annotations": (
                    f'{{"id": {n}, "iscrowd": 0, "area": {n % 9999}.25, "image_id": {n * 7919 % images}, "bbox": '
                    f'[{boxes[n % MANY]}], "category_id": {1 + n % categories}{mask()}}}'
                    for n in range(objects)
                ),
                "categories": (f'{{"id": {n}, "name": "kind {n}"}}' for n in range(1, categories + 1)),
            },
        )


def _write(path: Path, lists: dict[str, Iterable[str]]) -> None:
    with path.open("w") as file:
        file.write('{"info": {"year": 2017}')
        for name, rows in lists.items():
            file.write(f', "{name}": [')
            for number, row in enumerate(rows):
                file.write(f", {row}" if number else row)
            file.write("]")
        file.write("}")


def _sentence(rng: random.Random, words: int) -> str:
    return " ".join(rng.choices(WORDS, k=words))


def _answers(rng: random.Random) -> str:
    given = rng.choices(ANSWERS, k=10)
    rows = [{"answer": answer, "answer_confidence": "yes", "answer_id": n} for n, answer in enumerate(given, 1)]
    return f'"multiple_choice_answer": "{given[0]}", "answers": {json.dumps(rows)}'


def _captioned(rng: random.Random, image: int, split: str) -> str:
    folder = "train2014" if split == "train" else "val2014"
    texts = [_sentence(rng, 10) for _ in range(5)]
    sentences = [
        {"tokens": text.split(), "raw": f"{text}.", "imgid": image, "sentid": 5 * image + n}
        for n, text in enumerate(texts)
    ]
    row = {
        "filepath": folder,
        "sentids": [5 * image + n for n in range(5)],
        "filename": f"COCO_{folder}_{image:012d}.jpg",
        "imgid": image,
        "split": split,
        "sentences": sentences,
        "cocoid": image,
    }
    return json.dumps(row)


def _polygon(rng: random.Random) -> str:
    points = max(3, round(rng.expovariate(1 / (COORDINATES / 2))))
    return ", ".join(f"{rng.uniform(0, 640):.2f}" for _ in range(2 * points))
