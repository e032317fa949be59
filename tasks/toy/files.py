"""Files that are there whole or not at all, so that an interrupted drawing can go on."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from backbones.files import replacing
from tasks.adapter import Progress
from tasks.toy.draw import draw
from tasks.toy.scene import Scene

QUALITY = 92  # of the JPEG files
FORMATS = {".jpg": "JPEG", ".JPEG": "JPEG", ".png": "PNG"}


def save_picture(path: Path, scene: Scene, *, image_size: int) -> None:
    """Draw `scene`, its longer side `image_size` pixels, unless the file is there."""
    if not path.exists():
        save_pixels(path, draw(scene, size=image_size))


def save_pixels(path: Path, pixels: np.ndarray) -> None:
    """Write uint8 [rows, columns, 3] (RGB) or [rows, columns] as a picture, in the format of the name's suffix."""
    image = Image.fromarray(pixels)
    with replacing(path, sync=False) as partial:
        image.save(partial, FORMATS[path.suffix], **({"quality": QUALITY} if path.suffix != ".png" else {}))


def save_json(path: Path, content: Any) -> None:
    save_text(path, json.dumps(content))


def save_lines(path: Path, rows: Iterable[Any]) -> None:
    """A JSON text per line."""
    save_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def save_text(path: Path, text: str) -> None:
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def numbers(count: int, title: str, progress: Progress | None) -> Iterable[int]:
    """0 to `count` - 1, with a progress bar where one is wanted."""
    return progress(range(count), title) if progress else range(count)
