"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def move_into_place(partial: Path, path: Path) -> None:
    """Rename a finished file; after a power cut the old one or the new one is there, and never an empty one."""
    _sync(partial)
    partial.replace(path)
    with contextlib.suppress(OSError):  # some network file systems cannot sync a folder
        _sync(path.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
