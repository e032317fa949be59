"""Fingerprints of a run's data: a hash of the samples, and one of their image files' sizes and times, or contents."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backbones.errors import InputError
from harness.progress import bar
from harness.provenance import data_sha256
from tasks.adapter import Sample, TaskAdapter

THREADS = 32  # waiting for a network's file system, most of the time
CHUNK = 512  # files that a thread looks at in one go


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """Fingerprint of one split.

    data: see `data_sha256`.
    images: number, bytes and a hash of sizes and modification times of the image files, in the order of their first
        use. It shows whether this machine's files have changed; it is not in a result row, since a copy of the same
        files may have other times.
    images_sha256: hash of the contents, when they were read.
    """

    data: str
    images: Mapping[str, int | str]
    images_sha256: str = ""


def fingerprint(adapter: TaskAdapter, samples: Sequence[Sample], root: Path, *, contents: bool = False) -> Fingerprint:
    """Compute the fingerprint of a split in one pass over the samples.

    Args:
        root: the task's data folder.
        contents: read every image file.

    Raises:
        InputError: with `contents`, a file that cannot be read.
    """
    files: dict[str, None] = {}

    def noting_files() -> Iterator[Sample]:
        for sample in samples:
            files.update(dict.fromkeys(adapter.image_files(sample)))
            yield sample

    data = data_sha256(adapter, noting_files(), root)
    paths = [os.path.join(root, file) for file in files]  # noqa: PTH118  a million Path objects take seconds
    return Fingerprint(data=data, images=_stamp(paths), images_sha256=_contents(paths) if contents else "")


def differences(split: str, before: Mapping[str, Any], now: Fingerprint) -> list[str]:
    """Describe how a split differs from its stored fingerprint; empty when it is the same.

    Contents decide about images where both sides have read them, else sizes and times.
    """
    found = []
    if before["data"] != now.data:
        found.append(f"the ids, texts, image paths or annotations of {split} have changed")
    if before["images_sha256"] and now.images_sha256:
        if before["images_sha256"] != now.images_sha256:
            found.append(f"the contents of image files of {split} have changed")
    elif before["images"] != now.images:
        found.append(
            f"image files of {split} have other sizes or times (runs that are started with --verify-images compare "
            "contents, and go on with a copy of the files)"
        )
    return found


def _stamp(paths: Sequence[str]) -> dict[str, int | str]:
    digest, total = hashlib.sha256(), 0
    for size, seconds in _each(_size_and_time, paths):
        total += max(size, 0)
        digest.update(b"%d %d\n" % (size, seconds))
    return {"files": len(paths), "bytes": total, "sizes_and_times": digest.hexdigest()}


def _size_and_time(path: str) -> tuple[int, int]:
    """Size in bytes and modification time in whole seconds, which archives and copies keep; -1 and 0 if absent."""
    try:
        found = os.stat(path)  # noqa: PTH116  a million Path objects take seconds
    except OSError:
        return -1, 0
    return found.st_size, int(found.st_mtime)


def _contents(paths: Sequence[str]) -> str:
    """Hash over the SHA-256 of each file, one per line."""
    digest = hashlib.sha256()
    with bar("verify images", len(paths)) as shown:
        for line in _each(_sha256, paths):
            digest.update(line.encode() + b"\n")
            shown.advance(1, "")
    return digest.hexdigest()


def _sha256(path: str) -> str:
    try:
        with open(path, "rb") as file:  # noqa: PTH123  as above
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(
            f"Image {path} cannot be read ({error.strerror}), so the images cannot be verified. Put it there: "
            "`harness check` lists all that are missing."
        ) from error


def _each(look: Callable[[str], Any], paths: Sequence[str]) -> Iterator[Any]:
    """Call `look` for every path in parallel; yields the results in the order of the paths."""
    chunks = [paths[first : first + CHUNK] for first in range(0, len(paths), CHUNK)]
    with ThreadPoolExecutor(THREADS) as pool:
        for found in pool.map(lambda chunk: [look(path) for path in chunk], chunks):
            yield from found
