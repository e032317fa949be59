"""Small captioned data sets in Karpathy's form: a picture's captions name the channel that is brightest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = ("red", "green", "blue")
COCO_SPLITS = ("train", "train", "restval", "val", "test", "test")
FLICKR30K_SPLITS = ("train", "train", "val", "test")


def write_coco(root: Path, *, images: int = 24) -> Path:
    """`images` pictures, a third of them in test; those of an odd number have three captions, the others two."""
    rows = []
    for number in range(images):
        split = COCO_SPLITS[number % len(COCO_SPLITS)]
        folder = "train2014" if split == "train" else "val2014"
        name = f"COCO_{folder}_{number + 500:012d}.jpg"
        row = {"filepath": folder, "filename": name, "cocoid": number + 500, "imgid": number, "split": split}
        rows.append(row | {"sentences": _sentences(number)})
        _draw(root / folder / name, number)
    return _write(root / "dataset_coco.json", rows)


def write_flickr30k(root: Path, *, images: int = 16) -> Path:
    """`images` pictures, a quarter of them in test, with captions as in `write_coco`."""
    rows = []
    for number in range(images):
        row = {"filename": f"{number + 7000}.jpg", "imgid": number, "split": FLICKR30K_SPLITS[number % 4]}
        rows.append(row | {"sentences": _sentences(number)})
        _draw(root / "flickr30k-images" / row["filename"], number)
    return _write(root / "dataset_flickr30k.json", rows)


def edit(file: Path, change) -> None:
    """Write `file` again after `change` did something to the list of its images."""
    content = json.loads(file.read_text())
    change(content["images"])
    file.write_text(json.dumps(content))


def _sentences(number: int) -> list[dict]:
    colour = COLOURS[number % 3]
    texts = [
        f"A {colour} picture, {number}.",
        f"number {number} is {colour}",
        f"Three words for {colour}: {number} {number} {number}",
    ]
    count = 2 + number % 2
    return [
        {"raw": text, "tokens": text.lower().split(), "imgid": number, "sentid": 10 * number + place}
        for place, text in enumerate(texts[:count])
    ]


def _draw(path: Path, number: int) -> None:
    rng = np.random.default_rng(number)
    pixels = rng.integers(0, 100, (24, 30, 3))
    pixels[..., number % 3] += 140
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def _write(file: Path, rows: Sequence[dict]) -> Path:
    file.write_text(json.dumps({"images": rows}))
    return file.parent
