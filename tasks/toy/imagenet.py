"""Toy scenes in ImageNet form: the class of a picture is the shape of its largest thing."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from backbones.errors import InputError
from tasks.adapter import Progress
from tasks.toy.draw import draw
from tasks.toy.folder import begin, finish, partial_name
from tasks.toy.scene import generator, sample_scene
from tasks.toy.shapes import SHAPES

CLASSES = tuple(sorted(SHAPES))
SMALLEST = 32  # pixels; below, shapes and patterns are no longer told apart
QUALITY = 92  # of the JPEG files
VERSION = 1  # of the drawing: one more whenever the same seed gives other pictures


def write_imagenet(
    folder: Path, *, seed: int, train: int, val: int, image_size: int, progress: Progress | None = None
) -> None:
    """Write `folder/{train,val}/<shape>/<number>.JPEG`, classes in turn, and `folder/toy.json` once all are there.

    Raises:
        InputError: an argument is out of range, or the folder holds something else.
    """
    _check(folder, seed=seed, train=train, val=val, image_size=image_size)
    parameters = {"version": VERSION, "seed": seed, "train": train, "val": val, "image_size": image_size}
    if begin(folder, parameters):
        return
    for split, count in (("train", train), ("val", val)):
        for name in CLASSES:
            (folder / split / name).mkdir(parents=True, exist_ok=True)
        indices = range(count)
        for index in progress(indices, f"draw {split}") if progress else indices:
            name = CLASSES[index % len(CLASSES)]
            path = folder / split / name / f"{index:06d}.JPEG"
            if not path.exists():
                scene = sample_scene(generator(seed, f"imagenet/{split}", index), subject=name)
                _save(Image.fromarray(draw(scene, size=image_size)), path)
    finish(folder)


def _check(folder: Path, *, seed: int, image_size: int, **counts: int) -> None:
    for name, value, least in (
        ("seed", seed, 0),
        ("image_size", image_size, SMALLEST),
        # A class without a picture in one split would shift the class numbers of the other.
        *((split, count, len(CLASSES)) for split, count in counts.items()),
    ):
        if value < least:
            raise InputError(
                f"The toy data set cannot be drawn to {folder}: {name} is {value}. Give a {name} of {least} or more."
            )


def _save(image: Image.Image, path: Path) -> None:
    """A file is there whole or not at all, so that an interrupted drawing can go on."""
    partial = partial_name(path)
    image.save(partial, "JPEG", quality=QUALITY)
    partial.replace(path)
