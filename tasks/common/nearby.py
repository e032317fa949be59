"""Hint where a data folder is, for a `--data` that is one or two levels too high or too low."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

LEVELS = 2


def nearby(root: Path, *files: str) -> str:
    """Sentence, with a space before it, that names a folder near `root` with one of `files`; empty when there is none.

    Args:
        files: paths relative to a data folder.
    """
    for folder in (*root.absolute().parents[:LEVELS], *_below(root, LEVELS)):
        if found := next((name for name in files if (folder / name).is_file()), None):
            return f" {found} is in {folder}: did you mean --data {folder}?"
    return ""


def _below(folder: Path, levels: int) -> Iterator[Path]:
    """Folders in a folder, those of one level before those of the next."""
    try:
        with os.scandir(folder) as entries:
            inner = sorted(Path(entry.path) for entry in entries if entry.is_dir())
    except OSError:
        return
    yield from inner
    if levels > 1:
        for each in inner:
            yield from _below(each, levels - 1)
