"""Remembered hashes of data and files: computed again when a size or a time changes, or when asked for."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from harness.grids.hashes import Hashes


def sha256(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def rewritten(path: Path, text: bytes) -> None:
    """Replace a file's content under its old times."""
    times = path.stat()
    path.write_bytes(text)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_a_file_is_read_again_only_when_its_size_or_time_changes(tmp_path: Path) -> None:
    path, hashes = tmp_path / "weights", Hashes(tmp_path / "hashes")
    path.write_bytes(b"one")
    assert hashes.of_file(path) == sha256(b"one")
    rewritten(path, b"two")
    assert hashes.of_file(path) == sha256(b"one")
    assert Hashes(tmp_path / "hashes", verify=True).of_file(path) == sha256(b"two")
    assert hashes.of_file(path) == sha256(b"two")  # what was verified is remembered
    rewritten(path, b"three")
    assert hashes.of_file(path) == sha256(b"three")
    os.utime(path, (1, 1))
    path.write_bytes(b"other")
    assert hashes.of_file(path) == sha256(b"other")


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "a.json").write_text("longer"),
        lambda folder: os.utime(folder / "a.json", (1, 1)),
        lambda folder: (folder / "new.txt").touch(),
        lambda folder: (folder / "images" / "2.jpg").touch(),
        lambda folder: (folder / "images" / "1.jpg").rename(folder / "images" / "3.jpg"),
        lambda folder: (folder / "images").rename(folder / "pictures"),
    ],
)
def test_data_are_read_again_when_annotations_or_names_change(tmp_path: Path, change: object) -> None:
    folder, asked = tmp_path / "data", []
    (folder / "images").mkdir(parents=True)
    (folder / "a.json").write_text("{}")
    (folder / "images" / "1.jpg").write_bytes(b"")
    (folder / "images" / "loop").symlink_to(folder)
    hashes = Hashes(tmp_path / "hashes")

    def find() -> str:
        asked.append(1)
        return "hash"

    for _ in range(2):
        assert hashes.of_data("imagenet", [folder], find) == "hash"
    (folder / "images" / "1.jpg").write_bytes(b"contents of images are not hashed")
    hashes.of_data("imagenet", [folder], find)
    assert len(asked) == 1
    change(folder)
    hashes.of_data("imagenet", [folder], find)
    assert len(asked) == 2


def test_what_a_folder_does_not_hold_is_not_remembered(tmp_path: Path) -> None:
    asked = []
    hashes = Hashes(tmp_path / "hashes")
    for _ in range(2):
        assert hashes.of_data("nocaps", [tmp_path], lambda: (asked.append(1) or "hash", False)) == "hash"
    assert len(asked) == 2


def test_a_damaged_memory_is_computed_again(tmp_path: Path) -> None:
    path, hashes = tmp_path / "weights", Hashes(tmp_path / "hashes")
    path.write_bytes(b"one")
    hashes.of_file(path)
    (memory,) = (tmp_path / "hashes").iterdir()
    for text in ("{", "[]", "{}"):
        memory.write_text(text)
        assert hashes.of_file(path) == sha256(b"one")
