"""Hashes of data and files, remembered by the sizes and times of the files."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from backbones.files import replacing

# Files whose names alone count, as in the data hash: there are too many to look at.
IMAGES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


@dataclass(frozen=True)
class Hashes:
    """A folder of remembered hashes, a small file for each. verify: compute each hash anew."""

    folder: Path
    verify: bool = False

    def of_file(self, path: Path) -> str:
        """Sha256 of a file."""
        return self.remembered(f"file {path.resolve()}", _sizes_and_times(path), lambda: _sha256(path))

    def of_data(self, name: str, folders: Sequence[Path], find: Callable[[], str | tuple[str, bool]]) -> str:
        """The hash that `find` computes of the data in some folders or files; see `remembered`."""
        places = [folder.resolve() for folder in folders]
        stamp = " ".join(_sizes_and_times(place) for place in places)
        return self.remembered(f"{name} {' '.join(map(str, places))}", stamp, find)

    def remembered(self, name: str, stamp: str, find: Callable[[], str | tuple[str, bool]]) -> str:
        """The hash remembered under a name, if the stamp is the same, else what `find` gives, which is remembered.

        Args:
            find: gives the hash, or the hash and whether the stamp says all about it.
        """
        file = self.folder / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"
        with suppress(OSError, ValueError, KeyError, TypeError):
            known = json.loads(file.read_text())
            if not self.verify and known["stamp"] == stamp:
                return known["sha256"]
        found = find()
        found, whole = found if isinstance(found, tuple) else (found, True)
        if not whole:
            return found
        with suppress(OSError), replacing(file, sync=False) as partial:  # computed again where it cannot be written
            partial.write_text(json.dumps({"name": name, "stamp": stamp, "sha256": found}))
        return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sizes_and_times(path: Path) -> str:
    """Hash of a file's size and time, or of a folder's file names, with sizes and times of all but images."""
    digest = hashlib.sha256()
    if path.is_file():
        digest.update(_size_and_time(path))
    seen = set()
    for folder, folders, files in os.walk(path, followlinks=True):
        if (real := os.path.realpath(folder)) in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        digest.update(f"{os.path.relpath(folder, path)}\n".encode())
        for name in sorted(files):
            digest.update(f"{name}\n".encode())
            if Path(name).suffix.lower() not in IMAGES:
                digest.update(_size_and_time(Path(folder) / name))
    return digest.hexdigest()


def _size_and_time(path: Path) -> bytes:
    try:
        found = path.stat()
    except OSError:  # a link to nothing
        return b"-\n"
    return b"%d %d\n" % (found.st_size, found.st_mtime_ns)
