"""Toy scenes in the forms of COCO captions, its Karpathy splits, and VQAv2: one set of pictures for all three.

COCO's instances have pictures of their own (`tasks.toy.instances`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.adapter import Progress
from tasks.toy import instances
from tasks.toy.answers import ten_answers
from tasks.toy.captions import captions, tokens
from tasks.toy.coco_rows import LICENSE, image_row, info
from tasks.toy.files import numbers, save_json, save_picture
from tasks.toy.questions import PALETTE, Interviewer
from tasks.toy.scene import generator
from tasks.toy.still_life import sample_still_life

FOLDER = "coco"
PARTS = {"train2014": 1500, "val2014": 300, "test2015": 200}
SIZES = PARTS | instances.PARTS
LEAST = 12
VERSION = 3
YEAR = 2014
CAPTIONS = 5
QUESTION_TYPES = ("yes/no", "other")  # of each picture, and one of LAST in turn
LAST = ("number", "other", "number", "yes/no")
KARPATHY = ("restval", "val", "test")  # of the pictures of val2014, in turn


def write(folder: Path, sizes: Mapping[str, int], *, seed: int, image_size: int, progress: Progress | None) -> None:
    """Write `folder/{train2014,val2014,test2015,train2017,val2017,test2017}/*.jpg`, and under `folder`
    `dataset_coco.json`, `annotations/*.json` and `vqa/*.json`."""
    karpathy: list[dict[str, Any]] = []
    for part in PARTS:
        images, questions, annotations = [], [], []
        interviewer = Interviewer()
        for index in numbers(sizes[part], f"draw {part}", progress):
            # One stream of random numbers each: a change to the questions leaves the captions as they are.
            scene = sample_still_life(generator(seed, f"coco/{part}", index), PALETTE)
            image_id = _image_id(part, index)
            file_name = f"COCO_{part}_{image_id:012d}.jpg"
            images.append(image := image_row(image_id, file_name, image_size, image_size, year=YEAR))
            save_picture(folder / part / image["file_name"], scene, image_size=image_size)
            if part != "test2015":
                texts = captions(generator(seed, f"coco/{part}/captions", index), scene, CAPTIONS)
                split = "train" if part == "train2014" else KARPATHY[index % len(KARPATHY)]
                row = {"filepath": part, "filename": image["file_name"], "cocoid": image_id, "split": split}
                karpathy.append(row | karpathy_texts(texts, imgid=len(karpathy), first=CAPTIONS * image_id))
            rng = generator(seed, f"coco/{part}/questions", index)
            asked = interviewer.ask(rng, scene, (*QUESTION_TYPES, LAST[index % len(LAST)]))
            for number, question in enumerate(asked):
                ids = {"image_id": image_id, "question_id": image_id * 1000 + number}
                questions.append(ids | {"question": question.text})
                annotations.append(
                    {
                        "question_type": question.question_type,
                        "multiple_choice_answer": question.answer,
                        "answers": ten_answers(rng, question.answer, question.answers),
                        "answer_type": question.answer_type,
                    }
                    | ids
                )
        _save_questions(folder, part, questions)
        if part == "test2015":
            in_dev = {image["id"] for image in images[::4]}
            _save_questions(folder, "test-dev2015", [row for row in questions if row["image_id"] in in_dev])
        else:
            _save_annotations(folder, part, annotations)
            rows = [row for row in karpathy if row["filepath"] == part]
            save_json(folder / "annotations" / f"captions_{part}.json", caption_file(images, rows))
    save_json(folder / "dataset_coco.json", {"images": karpathy, "dataset": "coco"})
    instances.write(folder, sizes, seed=seed, image_size=image_size, progress=progress)


def karpathy_texts(texts: list[str], *, imgid: int, first: int) -> dict[str, Any]:
    """The fields of a Karpathy entry that hold its sentences, numbered from `first`."""
    return {
        "sentids": list(range(first, first + len(texts))),
        "imgid": imgid,
        "sentences": [
            {"tokens": tokens(text), "raw": text, "imgid": imgid, "sentid": first + number}
            for number, text in enumerate(texts)
        ],
    }


def caption_file(images: list[dict[str, Any]], karpathy: list[dict[str, Any]]) -> dict[str, Any]:
    """COCO's own file of the same captions."""
    annotations = [
        {"image_id": row["cocoid"], "id": sentence["sentid"], "caption": sentence["raw"]}
        for row in karpathy
        for sentence in row["sentences"]
    ]
    return {"info": info(YEAR), "images": images, "licenses": [LICENSE], "annotations": annotations}


def _image_id(part: str, index: int) -> int:
    """Different in each part, with gaps, and the same however many pictures are drawn."""
    return 1 + 3 * index + list(PARTS).index(part)


def _save_questions(folder: Path, part: str, questions: list[dict[str, Any]]) -> None:
    head = {"info": info(YEAR), "task_type": "Open-Ended", "data_type": "mscoco", "license": LICENSE}
    content = head | {"data_subtype": part, "questions": questions}
    save_json(folder / "vqa" / f"v2_OpenEnded_mscoco_{part}_questions.json", content)


def _save_annotations(folder: Path, part: str, annotations: list[dict[str, Any]]) -> None:
    head = {"info": info(YEAR), "license": LICENSE, "data_subtype": part}
    content = head | {"annotations": annotations, "data_type": "mscoco"}
    save_json(folder / "vqa" / f"v2_mscoco_{part}_annotations.json", content)
