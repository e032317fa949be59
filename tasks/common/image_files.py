"""Image files before they are decoded: which are opened, and how large they may be. Without PyTorch."""

from __future__ import annotations

import io
import stat
from pathlib import Path

from PIL import Image

# No other is opened: Pillow hands PostScript, which is a program, to an interpreter.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
LARGEST = 1 << 27  # pixels; the largest image of the data sets has half of that
NARROWEST = 2000  # times the shorter side
# Raised by Pillow of damaged files.
UNDECODABLE = (OSError, SyntaxError, ValueError, EOFError, OverflowError, MemoryError, Image.DecompressionBombError)


def decoded(content: bytes) -> Image.Image:
    """An RGB image, from the content of a file.

    Raises:
        ValueError, OSError, SyntaxError: it cannot be decoded.
    """
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        require_size(image)
        return image.convert("RGB")


def require_regular(path: Path) -> None:
    """Check that a path is a file, and no pipe or device, which would be waited for.

    Raises:
        OSError: it is none, or absent.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError("no regular file")


def require_size(image: Image.Image) -> None:
    """Check the size of an image before it is decoded.

    Raises:
        ValueError: it is too large, or too narrow to be resized by its shorter side.
    """
    width, height = image.size
    if width * height > LARGEST or max(width, height) > NARROWEST * min(width, height):
        raise ValueError(
            f"{width:,} × {height:,} pixels: at most {LARGEST:,} are read, and sides of at most 1 to {NARROWEST:,}"
        )
