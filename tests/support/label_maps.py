"""Label maps drawn at random, in the official layout of ADE20K and as PNG files of other forms."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from tasks.segmentation.annotations import CLASS_FILE

NAMES = ("sky", "tree", "road, street")
SIZE = (26, 20)  # width, height


def draw(root: Path, split: str, name: str, *, size: tuple[int, int] = SIZE) -> None:
    """An image whose greys say its classes, and its label map with unlabelled pixels. Names end in a number."""
    folder = {"train": "training", "val": "validation"}[split]
    ids = np.random.default_rng(int(name[-8:])).integers(0, len(NAMES) + 1, (size[1], size[0]), dtype=np.uint8)
    save(root / "annotations" / folder / f"{name}.png", ids)
    save(root / "images" / folder / f"{name}.jpg", np.repeat(60 * ids[..., None], 3, axis=2))


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def draw_folder(root: Path) -> Path:
    """A data set of three classes in the official layout: 5, 4 and 2 images."""
    for split, images in (("train", 5), ("val", 4)):
        for number in range(images):
            draw(root, split, f"ADE_{split}_{number + 1:08d}", size=(SIZE[0] + number, SIZE[1]))
    for number in range(2):
        save(root / f"release_test/testing/ADE_test_{number + 1:08d}.jpg", np.zeros((9, 7 + number, 3), np.uint8))
    rows = [
        f"{number} \t0.1\t5\t4\t{name} " for number, name in enumerate(NAMES, 1)
    ]  # the official one has such spaces
    (root / CLASS_FILE).write_text("\n".join(["Idx\tRatio\tTrain\tVal\tName", *rows]) + "\n")
    return root


def png(pixels: np.ndarray, mode: str | None = None) -> np.ndarray:
    """The bytes of a PNG file, as a record has them."""
    content = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(content, "PNG")
    return np.frombuffer(content.getvalue(), np.uint8)


def png_with_palette(ids: np.ndarray) -> np.ndarray:
    """Ids as indices of colours that are other numbers."""
    content, image = io.BytesIO(), Image.fromarray(ids)
    image.putpalette([255 - number // 3 for number in range(768)])
    image.save(content, "PNG")
    return np.frombuffer(content.getvalue(), np.uint8)
