"""Toy scenes in the form of NoCaps: in-domain pictures show shapes that the captions of COCO have words for,
out-domain ones show none of them, near-domain ones show both."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tasks.adapter import Progress
from tasks.toy.captions import captions
from tasks.toy.files import numbers, save_json, save_picture
from tasks.toy.scene import Scene, generator
from tasks.toy.still_life import FAMILIAR, NOVEL, Palette, sample_still_life

FOLDER = "nocaps"
SIZES = {"val": 90, "test": 60}
LEAST = 12
VERSION = 2
CAPTIONS = 10
DOMAINS = {
    "in-domain": Palette(shapes=FAMILIAR),
    "near-domain": Palette(),
    "out-domain": Palette(shapes=NOVEL),
}
FILES = {"val": "nocaps_val_4500_captions.json", "test": "nocaps_test_image_info.json"}


def write(folder: Path, sizes: Mapping[str, int], *, seed: int, image_size: int, progress: Progress | None) -> None:
    """Write `folder/{val,test}/*.jpg` and the two json files; the captions of test are not public, nor its domains."""
    for split, count in sizes.items():
        images, annotations = [], []
        for index in numbers(count, f"draw nocaps {split}", progress):
            domain = list(DOMAINS)[index % len(DOMAINS)]
            scene = sample(generator(seed, f"nocaps/{split}", index), domain)
            images.append(image := _image(split, index, image_size))
            save_picture(folder / split / image["file_name"], scene, image_size=image_size)
            if split == "val":
                image["domain"] = domain
                for text in captions(generator(seed, f"nocaps/{split}/captions", index), scene, CAPTIONS):
                    annotations.append({"image_id": image["id"], "id": len(annotations), "caption": text})
        info = {"description": f"procedural toy data, {split}", "version": "0.1", "year": 2018, "contributor": "",
                "url": "", "date_created": "2018/01/01"}  # fmt: skip
        content = {"licenses": [], "info": info, "images": images}
        save_json(folder / FILES[split], content | ({"annotations": annotations} if split == "val" else {}))


def sample(rng: np.random.Generator, domain: str) -> Scene:
    """A scene of a domain."""
    while True:
        scene = sample_still_life(rng, DOMAINS[domain])
        novel = {thing.shape in NOVEL for thing in scene.things}
        if domain != "near-domain" or len(novel) == 2:
            return scene


def _image(split: str, index: int, image_size: int) -> dict[str, Any]:
    open_images_id = f"{zlib.crc32(f'{split}/{index}'.encode()):08x}{index:08x}"
    return {
        "license": 0,
        "open_images_id": open_images_id,
        "file_name": f"{open_images_id}.jpg",
        "coco_url": "",
        "height": image_size,
        "width": image_size,
        "date_captured": "2018-01-01 00:00:00",
        "id": index,
    }
