"""Maps of class ids as PNG files: one channel, 0 for no class, 1 + class elsewhere."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from backbones.errors import InputError
from tasks.common.image_files import UNDECODABLE, require_regular, require_size

SIXTEEN_BITS = ("I;16", "I;16B", "I")
ONE_CHANNEL = ("L", "P", "1", *SIXTEEN_BITS)  # PIL's modes; of a palette image the indices count, not the colours


def read_map(source: Path | bytes, *, classes: int, what: str) -> np.ndarray:
    """A map as uint8 [height, width], ids from 0 to `classes`.

    Args:
        source: a PNG file, or its content.
        what: the map in words, for messages, such as "Label map /data/annotations/training/1.png".

    Raises:
        InputError: absent, no PNG, truncated, in colours, or with an id beyond the classes.
    """
    try:
        if isinstance(source, Path):
            require_regular(source)
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=("PNG",)) as image:
            require_size(image)
            if image.mode not in ONE_CHANNEL:
                raise InputError(
                    f"{what} is in colours (PIL mode {image.mode}). A map has one channel of ids: 0 for no class, "
                    "1 + class elsewhere. Save it so; colours have to be translated into ids first."
                )
            ids = np.asarray(image)
    except FileNotFoundError:
        raise InputError(f"{what} is absent. Restore it.") from None
    except UnidentifiedImageError:
        raise InputError(f"{what} is not a PNG file that can be read. Replace it with the original file.") from None
    except UNDECODABLE as error:
        raise InputError(f"{what} cannot be decoded ({error}). Replace it with the original file.") from error
    largest = int(ids.max())
    if largest > classes:
        raise InputError(
            f"{what} has the id {largest}, and there are {classes} classes: ids 1 to {classes}, 0 for no class. "
            "Fix the map, or list its class among the others."
        )
    return ids.astype(np.uint8)


def encoded(ids: np.ndarray) -> bytes:
    """A map uint8 [height, width] as the content of a PNG file."""
    content = io.BytesIO()
    Image.fromarray(ids).save(content, "PNG")
    return content.getvalue()


def require_same_size(ids: np.ndarray, size: tuple[int, int], *, what: str, than: str) -> None:
    """Check that a map [height, width] has a size (width, height).

    Raises:
        InputError: it is not; the message says both sizes.
    """
    height, width = ids.shape
    if (width, height) != size:
        raise InputError(
            f"{what} is {width:,} × {height:,} pixels, and {than} is {size[0]:,} × {size[1]:,}. A map has the size of "
            "its image as it is on disk: restore it in that size."
        )
