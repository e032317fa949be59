"""Toy scenes in ImageNet form: the class of a picture is the shape of its largest thing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tasks.adapter import Progress
from tasks.toy.files import numbers, save_picture
from tasks.toy.scene import generator, sample_scene
from tasks.toy.shapes import SHAPES

CLASSES = tuple(sorted(SHAPES))
FOLDER = "imagenet"
SIZES = {"train": 3000, "val": 500}
LEAST = len(CLASSES)  # a class without a picture in one split would shift the class numbers of the other
VERSION = 2  # of the drawing: one more whenever the same seed gives other pictures


def write(folder: Path, sizes: Mapping[str, int], *, seed: int, image_size: int, progress: Progress | None) -> None:
    """Write `folder/{train,val}/<shape>/<number>.JPEG`, classes in turn."""
    for split, count in sizes.items():
        for index in numbers(count, f"draw {split}", progress):
            name = CLASSES[index % len(CLASSES)]
            scene = sample_scene(generator(seed, f"imagenet/{split}", index), subject=name)
            save_picture(folder / split / name / f"{index:06d}.JPEG", scene, image_size=image_size)
