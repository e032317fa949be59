"""Image-text pairs in tar shards, as webdataset lays them out: the files of a sample follow each other and share a key.

A shard is indexed once (by its headers, with Python's own tarfile) and then read at places, like a folder. The
webdataset package reads shards as a stream: it has no resumption, splits shards over processes before it shuffles
them, and stops or repeats samples where there are more processes than shards. With an index, order is a function of
seed and counters here as everywhere.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from backbones.errors import InputError
from tasks.adapter import Sample
from tasks.common.image_files import UNDECODABLE, decoded

IMAGES = ("jpg", "jpeg", "png", "webp")
TEXT, JSON = "txt", "json"
CAPTION = "caption"  # field of a sample's .json where it has no .txt
BLOCK = 512  # bytes; a whole archive ends in zeros


def pairs(shard: Path) -> Iterator[Sample]:
    """Index the pairs of a shard: `inputs` have `shard`, `offset`, `size` (bytes) and `text`.

    Raises:
        InputError: not a tar file, one that is cut off, or a sample without an image or a text.
    """
    try:
        _require_end(shard)
        with tarfile.open(shard, "r:") as archive:
            key, files = None, {}
            for member in archive:
                if not member.isfile():
                    continue
                name, _, extension = _split(member.name)
                if name != key and files:
                    yield _pair(archive, shard, key, files)
                    files = {}
                key = name
                files[extension.lower()] = member
            if files:
                yield _pair(archive, shard, key, files)
    except (tarfile.TarError, OSError) as error:
        raise InputError(_damaged(shard, str(error))) from error


def image(path: Path, offset: int, size: int) -> Image.Image:
    """Decode an image within a shard, RGB.

    Raises:
        InputError: the shard is gone, or the bytes are no image.
    """
    try:
        with path.open("rb") as file:
            file.seek(offset)
            content = file.read(size)
        return decoded(content)
    except FileNotFoundError:
        raise InputError(f"The shard {path} is gone. Restore it, and run the same command again.") from None
    except UNDECODABLE as error:
        raise InputError(
            f"The image at byte {offset} of {path} cannot be decoded ({error}). Replace the shard with the original "
            "file."
        ) from error


def _require_end(shard: Path) -> None:
    with shard.open("rb") as file:
        length = file.seek(0, io.SEEK_END)
        file.seek(max(0, length - BLOCK))
        if length % BLOCK or any(file.read(BLOCK)):
            raise InputError(_damaged(shard, "its end is missing"))


def _damaged(shard: Path, reason: str) -> str:
    return f"{shard} is not a complete tar file ({reason}). Copy or download it again."


def _split(name: str) -> tuple[str, str, str]:
    """webdataset's rule: the key ends at the first dot of the file's own name."""
    folder, slash, base = name.rpartition("/")
    stem, dot, extension = base.partition(".")
    return folder + slash + stem, dot, extension


def _pair(archive: tarfile.TarFile, shard: Path, key: str, files: dict[str, tarfile.TarInfo]) -> Sample:
    kind = next((name for name in IMAGES if name in files), None)
    text = _text(archive, files, where=f"{shard}, sample {key}")
    if kind is None or text is None:
        missing = f"no image ({', '.join(IMAGES)})" if kind is None else f"no text (.{TEXT}, or {CAPTION} in .{JSON})"
        raise InputError(
            f"{shard}: sample {key} has {missing}, only {', '.join(sorted(files))}. Write the shard again, or leave it "
            "out."
        )
    place = files[kind]
    inputs: dict[str, Any] = {
        "shard": str(shard), "offset": place.offset_data, "size": place.size, "text": text,
    }  # fmt: skip
    return Sample(f"{shard.name}/{key}", inputs, None)


def _text(archive: tarfile.TarFile, files: dict[str, tarfile.TarInfo], *, where: str) -> str | None:
    try:
        if TEXT in files:
            return archive.extractfile(files[TEXT]).read().decode("utf-8").strip()
        if JSON in files:
            return json.loads(archive.extractfile(files[JSON]).read()).get(CAPTION)
    except (ValueError, AttributeError) as error:
        raise InputError(f"{where}: its text cannot be read ({error}). Write the shard again.") from error
    return None
