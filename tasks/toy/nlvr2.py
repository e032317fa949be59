"""Toy scenes in the form of NLVR2: the images as its authors hand them out, the statements as in their repository.

A group of two statements and four pairs of images gives eight examples, `<split>-<group>-<pair>-<statement>`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.adapter import Progress
from tasks.toy.files import numbers, save_lines, save_picture
from tasks.toy.scene import generator
from tasks.toy.statements import Group, sample_group

FOLDER = "nlvr2"
SIZES = {"train": 250, "dev": 50, "test1": 50}  # groups: 2000, 400 and 400 examples
LEAST = 4
VERSION = 2
DIRECTORIES = 8  # over which the training images are spread


def write(folder: Path, sizes: Mapping[str, int], *, seed: int, image_size: int, progress: Progress | None) -> None:
    """Write the images, and `folder/nlvr/nlvr2/data/{train,dev,test1}.json`."""
    for split, count in sizes.items():
        rows = []
        for index in numbers(count, f"draw nlvr2 {split}", progress):
            group = sample_group(generator(seed, f"nlvr2/{split}", index))
            rows += examples(group, split=split, index=index)
            for pair, scenes in enumerate(group.pairs):
                for side, scene in enumerate(scenes):
                    path = _images(folder, split, index) / f"{split}-{index}-{pair}-img{side}.png"
                    save_picture(path, scene, image_size=image_size)
        save_lines(folder / "nlvr" / "nlvr2" / "data" / f"{split}.json", rows)


def examples(group: Group, *, split: str, index: int) -> list[dict[str, Any]]:
    """The lines of a group, in NLVR2's form."""
    rows = []
    for number, statement in enumerate(group.statements):
        for pair, first_holds in enumerate(group.first_holds):
            stem = f"{split}-{index}-{pair}"
            label = str(first_holds if number == 0 else not first_holds)
            row = {
                "validation": {"1": label},
                "sentence": statement.text,
                "left_url": f"toy:{stem}-img0.png",
                "writer": "0",
                "label": label,
                "right_url": f"toy:{stem}-img1.png",
                "synset": group.shape,
                "query": f"group of {group.shape}s",
                "identifier": f"{stem}-{number}",
            }
            row |= {"directory": _directory(index)} if split == "train" else {"extra_validations": {"2": label}}
            rows.append(row)
    return rows


def _directory(index: int) -> int:
    return index % DIRECTORIES


def _images(folder: Path, split: str, index: int) -> Path:
    return folder / "images" / "train" / str(_directory(index)) if split == "train" else folder / split
