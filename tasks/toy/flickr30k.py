"""Toy scenes in the form of Flickr30K with the Karpathy splits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tasks.adapter import Progress
from tasks.toy.captions import captions
from tasks.toy.coco import CAPTIONS, karpathy_texts
from tasks.toy.files import numbers, save_json, save_picture
from tasks.toy.scene import generator
from tasks.toy.still_life import Palette, sample_still_life

FOLDER = "flickr30k"
SIZES = {"train": 1000, "val": 100, "test": 200}
LEAST = 12
VERSION = 2
PALETTE = Palette()  # all shapes: what is novel in NoCaps can be learnt from here, not from the captions of COCO


def write(folder: Path, sizes: Mapping[str, int], *, seed: int, image_size: int, progress: Progress | None) -> None:
    """Write `folder/flickr30k-images/*.jpg` and `folder/dataset_flickr30k.json`."""
    rows = []
    for split, count in sizes.items():
        for index in numbers(count, f"draw flickr30k {split}", progress):
            scene = sample_still_life(generator(seed, f"flickr30k/{split}", index), PALETTE)
            filename = f"{1_000_000 + 3 * index + list(SIZES).index(split)}.jpg"
            save_picture(folder / "flickr30k-images" / filename, scene, image_size=image_size)
            texts = captions(generator(seed, f"flickr30k/{split}/captions", index), scene, CAPTIONS)
            row = {"filename": filename, "split": split}
            rows.append(row | karpathy_texts(texts, imgid=len(rows), first=CAPTIONS * len(rows)))
    save_json(folder / "dataset_flickr30k.json", {"images": rows, "dataset": "flickr30k"})
