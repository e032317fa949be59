"""Toy scenes in the form of ADE20K's scene parsing benchmark: surfaces are stuff, shapes are things."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from tasks.adapter import Progress
from tasks.toy.draw import masks
from tasks.toy.files import numbers, save_picture, save_pixels, save_text
from tasks.toy.landscape import Landscape, sample_landscape
from tasks.toy.scene import MATERIALS, generator
from tasks.toy.shapes import SHAPES

FOLDER = "ADEChallengeData2016"
SIZES = {"training": 800, "validation": 150}
LEAST = 12  # each class is the background or the foremost thing of one picture in ten
VERSION = 2
ENLARGED = 2  # longer sides of these pictures, in the sides of other forms'
STUFF, THINGS = tuple(MATERIALS), tuple(SHAPES)
CLASSES = (*STUFF, *THINGS)
"""Meaning of the labels 1, 2, …; 0 is unlabelled."""

NAMES = {
    "solid": "plain surface", "striped": "striped surface", "dotted": "dotted surface, spotted surface",
    "checkered": "checkered surface", "gradient": "shaded surface", "noisy": "blotchy surface",
    "circle": "circle, disc", "crescent": "crescent, moon", "cross": "cross, plus", "ring": "ring, donut",
}  # fmt: skip
PREFIXES = {"training": "ADE_train", "validation": "ADE_val"}


def write(folder: Path, sizes: Mapping[str, int], *, seed: int, image_size: int, progress: Progress | None) -> None:
    """Write `folder/images/{training,validation}/*.jpg`, `folder/annotations/{training,validation}/*.png`,
    `folder/objectInfo150.txt` and `folder/sceneCategories.txt`."""
    size = ENLARGED * image_size
    pixels, categories = {}, []
    for split, count in sizes.items():
        found = []
        for index in numbers(count, f"draw ade20k {split}", progress):
            name = f"{PREFIXES[split]}_{index + 1:08d}"
            landscape = sample_landscape(
                generator(seed, f"ade20k/{split}", index),
                # Shifted after each common multiple, so that every material comes with every shape.
                material=STUFF[(index + index // 30) % len(STUFF)],
                subject=THINGS[index % len(THINGS)],
            )
            save_picture(folder / "images" / split / f"{name}.jpg", landscape.scene, image_size=size)
            labels = label_map(landscape, size=size)
            map_file = folder / "annotations" / split / f"{name}.png"
            if not map_file.exists():
                save_pixels(map_file, labels)
            found.append(np.bincount(labels.ravel(), minlength=1 + len(CLASSES)))
            categories.append(f"{name} {landscape.layout}\n")
        pixels[split] = np.stack(found)
    save_text(folder / "objectInfo150.txt", _object_info(**pixels))
    save_text(folder / "sceneCategories.txt", "".join(categories))


def label_map(landscape: Landscape, *, size: int) -> np.ndarray:
    """The class of each pixel: uint8 [rows, columns]; 0 on clutter, and on the pixels either side of a border."""
    scene = landscape.scene
    classes = [CLASSES.index(thing.texture.material) for thing in scene.things[: landscape.surfaces]]
    classes += [CLASSES.index(thing.shape) for thing in scene.things[landscape.surfaces :]]
    everything = replace(scene, things=scene.things + scene.clutter, clutter=())
    values = np.array([1 + index for index in classes] + [0] * len(scene.clutter), np.uint8)
    seen = masks(everything, size=size)
    background = 1 + CLASSES.index(scene.background.material)
    labels = np.where(seen.any(0), values[seen.argmax(0)], background).astype(np.uint8)
    border = np.zeros(labels.shape, bool)
    down, across = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    border[1:] |= down
    border[:-1] |= down
    border[:, 1:] |= across
    border[:, :-1] |= across
    labels[border] = 0
    return labels


def _object_info(training: np.ndarray, validation: np.ndarray) -> str:
    """The official table of classes: share of all training pixels, numbers of pictures with the class, whether it is
    stuff, names. From the pixels of each label (columns) on each picture (rows)."""
    ratios = training.sum(0) / training.sum()
    lines = ["Idx\tRatio\tTrain\tVal\tStuff\tName\n"]
    for label, name in enumerate(CLASSES, 1):
        train, val = (np.count_nonzero(counts[:, label]) for counts in (training, validation))
        lines.append(f"{label}\t{ratios[label]:.4f}\t{train}\t{val}\t{int(name in STUFF)}\t{NAMES.get(name, name)}\n")
    return "".join(lines)
