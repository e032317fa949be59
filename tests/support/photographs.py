"""Benchmark layouts made from the real COCO photographs of the truth folder."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image


def classification_folders(truth: Path, root: Path, *, fewest: int = 3) -> Path:
    """An ImageFolder set: a photograph's class is the category of its largest instance.

    Training photographs are train2017's, validation photographs val2017's; categories with fewer than `fewest`
    training photographs or none to validate on are left out.
    """
    parts = {"train": "train2017", "val": "val2017"}
    labels = {split: _largest_category(truth / "multitask_coco" / part) for split, part in parts.items()}
    counts = Counter(labels["train"].values())
    kept = {name for name in set(labels["val"].values()) if counts[name] >= fewest}
    for split, part in parts.items():
        for file, name in labels[split].items():
            if name in kept:
                folder = root / split / name
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copy(truth / "multitask_coco" / part / "images" / file, folder)
    return root


def question_folder(truth: Path, root: Path) -> Path:
    """The official VQA v2.0 layout: the questions on every second photograph are val2014's, the others train2014's.

    There are too few for a vocabulary of frequent answers, so `answer2label.txt` lists every multiple-choice answer.
    """
    source = truth / "multitask_coco" / "train2017"
    questions = json.loads((source / "vqa_questions.json").read_text())["questions"]
    annotations = json.loads((source / "vqa_annotations.json").read_text())["annotations"]
    images = sorted({question["image_id"] for question in questions})
    (root / "vqa").mkdir(parents=True)
    for part, own in (("train2014", images[::2]), ("val2014", images[1::2])):
        (root / part).mkdir()
        for image in own:
            shutil.copy(source / "images" / f"{image:012d}.jpg", root / part / f"COCO_{part}_{image:012d}.jpg")
        for name, rows, file in (
            ("questions", questions, f"v2_OpenEnded_mscoco_{part}_questions.json"),
            ("annotations", annotations, f"v2_mscoco_{part}_annotations.json"),
        ):
            (root / "vqa" / file).write_text(json.dumps({name: [row for row in rows if row["image_id"] in own]}))
    answers = dict.fromkeys(annotation["multiple_choice_answer"] for annotation in annotations)
    lines = [json.dumps({"answer": answer, "label": label}) for label, answer in enumerate(answers)]
    (root / "answer2label.txt").write_text("\n".join(lines) + "\n")
    return root


def _largest_category(folder: Path) -> dict[str, str]:
    """Category of the largest instance by image file name."""
    content = json.loads((folder / "instances.json").read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    files = {image["id"]: image["file_name"] for image in content["images"]}
    largest: dict[str, dict] = {}
    for instance in content["annotations"]:
        file = files[instance["image_id"]]
        if file not in largest or instance["area"] > largest[file]["area"]:
            largest[file] = instance
    return {file: names[instance["category_id"]] for file, instance in largest.items()}


def karpathy_split(truth: Path, root: Path) -> Path:
    """COCO's captions in Karpathy's form: train2017's photographs to train, val2017's to val and test in turn."""
    images = []
    for part, splits in (("train2017", ("train", "restval")), ("val2017", ("val", "test"))):
        folder = truth / "multitask_coco" / part
        content = json.loads((folder / "captions.json").read_text())
        sentences: dict[int, list[dict]] = {}
        for caption in content["annotations"]:
            of_image = sentences.setdefault(caption["image_id"], [])
            of_image.append({"raw": caption["caption"], "imgid": len(images), "sentid": caption["id"]})
        for number, image in enumerate(content["images"]):
            name = image["file_name_2014"]
            row = {"filepath": name.split("_")[1], "filename": name, "cocoid": image["id"], "imgid": len(images)}
            images.append(row | {"split": splits[number % 2], "sentences": sentences[image["id"]]})
            (root / row["filepath"]).mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / "images" / image["file_name"], root / row["filepath"] / name)
    (root / "dataset_coco.json").write_text(json.dumps({"dataset": "coco", "images": images}))
    return root


def parsed_scenes(truth: Path, root: Path) -> Path:
    """An ADE20K layout of COCO's 133 panoptic classes: train2017's photographs to train, val2017's to val.

    Their ids have gaps; classes are numbered in the order of their ids, and `objectInfo150.txt` names them.
    """
    for part, split in (("train2017", "training"), ("val2017", "validation")):
        folder = truth / "multitask_coco" / part
        categories = json.loads((folder / "panoptic.json").read_text())["categories"]
        compact = np.zeros(256, np.uint8)
        compact[[category["id"] for category in categories]] = range(1, len(categories) + 1)
        for kind in ("images", "annotations"):
            (root / kind / split).mkdir(parents=True)
        for file in sorted((folder / "semantic_masks").glob("*.png")):
            shutil.copy(folder / "images" / f"{file.stem}.jpg", root / "images" / split)
            ids = compact[np.asarray(Image.open(file))]
            Image.fromarray(ids).save(root / "annotations" / split / file.name)
    rows = [f"{number}\t0\t0\t0\t0\t{category['name']}" for number, category in enumerate(categories, 1)]
    (root / "objectInfo150.txt").write_text("\n".join(["Idx\tRatio\tTrain\tVal\tStuff\tName", *rows]) + "\n")
    return root


def detection_folder(truth: Path, root: Path) -> Path:
    """The official COCO 2017 layout: the photographs of train2017, and those of val2017 that have instances."""
    for part in ("train2017", "val2017"):
        source = truth / "multitask_coco" / part
        content = json.loads((source / "instances.json").read_text())
        (root / part).mkdir(parents=True)
        for image in content["images"]:
            shutil.copy(source / "images" / image["file_name"], root / part)
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"instances_{part}.json").write_text(json.dumps(content))
    return root
