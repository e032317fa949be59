"""Tar shards as webdataset lays them out: the files of a sample follow each other and share a key.

    train-000000.tar, …        in a data folder, of the split train; or elsewhere, at the address in
    shards.url                 one line: http://…, where the shards are
    train.shards.jsonl         index, a line for each shard: its size, and each sample's files with their places; then a
                               line with their number

A shard is indexed once, by its headers, and then read at places like a folder: an image is the path
`train-000000.tar@OFFSET+SIZE`, in bytes. So order is a function of seed and counters here as everywhere: it is shuffled
over all shards and then split over processes and workers, a resumed run sees what it would have seen, every process has
as many samples as the others, also where there are fewer shards than processes, and evaluation has each sample once.
(The webdataset package reads shards as a stream. It has no resumption, splits shards over processes before it shuffles
them, and stops or repeats samples where there are more processes than shards.)

Where there is no index, shards in the folder are indexed at each start: 1.3 million samples take minutes. This writes
it, for each split of a folder; shards at an address need it:

    python -m tasks.common.shards FOLDER
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from backbones.errors import InputError
from backbones.files import reading, replacing

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager

IMAGES = ("jpg", "jpeg", "png", "webp")
INLINE = ("txt", "json", "cls")  # files whose text the index has; the second where there is not the first
ADDRESS, INDEX = "shards.url", ".shards.jsonl"
SUFFIX = ".tar"
BLOCK = 512  # bytes; a whole archive ends in zeros
LARGEST_TEXT = 1 << 20  # bytes
TRIES, WAIT = 5, 0.2  # requests for a part of a shard; seconds before the second, doubled with each
TIMEOUT = 60.0  # seconds
THREADS = 16  # that ask for the sizes of shards at an address
_PLACE = re.compile(r"(?P<shard>.+\.tar)@(?P<offset>\d+)\+(?P<size>\d+)")


class Member(NamedTuple):
    """A file in a shard: its name there, and its place in bytes."""

    name: str
    offset: int
    size: int


class ShardSample(NamedTuple):
    """A sample of a shard. files: by extension in small letters; texts: the contents of those in `INLINE`."""

    shard: str
    key: str
    files: dict[str, Member]
    texts: dict[str, str]

    @property
    def image(self) -> Member:
        """The image.

        Raises:
            InputError: there is none.
        """
        kind = next((name for name in IMAGES if name in self.files), None)
        if kind is None:
            raise self.lacks(f"no image ({', '.join(IMAGES)})")
        return self.files[kind]

    @property
    def place(self) -> str:
        """The path of the image, relative to the folder of the shards."""
        return f"{self.shard}@{self.image.offset}+{self.image.size}"

    def lacks(self, what: str) -> InputError:
        """The error about a sample that lacks something."""
        return InputError(
            f"{self.shard}: sample {self.key} has {what}, only {', '.join(sorted(self.files))}. Write the shard again, "
            "or leave it out."
        )


def are_in(folder: Path, split: str) -> bool:
    """Check that a split of a data folder is in shards."""
    return _index(folder, split).is_file() or any(folder.glob(f"{split}-*{SUFFIX}"))


def read(folder: Path, split: str) -> Iterator[ShardSample]:
    """The samples of a split, shard by shard.

    Raises:
        InputError: a shard that is damaged, cut off or absent, or an index of other shards.
    """
    index = _index(folder, split)
    if index.is_file():
        yield from _indexed(index)
        return
    if (folder / ADDRESS).is_file():
        raise InputError(
            f"{folder} has an address of shards ({ADDRESS}) and no {index.name}. Write the index where the shards are, "
            "`python -m tasks.common.shards FOLDER`, and copy it here."
        )
    empty = True
    for shard in sorted(folder.glob(f"{split}-*{SUFFIX}")):
        for sample in scanned(shard):
            empty = False
            yield sample
    if empty:
        raise InputError(f"The shards {folder / split}-*{SUFFIX} hold no sample. Copy or download them again.")


def scanned(shard: Path) -> Iterator[ShardSample]:
    """The samples of a shard, found by its headers.

    Raises:
        InputError: not a tar file, one that is cut off, or a text that cannot be read.
    """
    try:
        _require_end(shard)
        with tarfile.open(shard, "r:") as archive:
            key, members = None, {}
            for member in archive:
                if not member.isfile():
                    continue
                name, _, extension = _split(member.name)
                if name != key and members:
                    yield _sample(archive, shard, key, members)
                    members = {}
                key = name
                members[extension.lower()] = member
            if members:
                yield _sample(archive, shard, key, members)
    except (tarfile.TarError, OSError) as error:
        raise InputError(_damaged(shard, str(error))) from error


def write_index(folder: Path, split: str, shards: Sequence[Path]) -> Path:
    """Write the index of a split.

    Raises:
        InputError: see `scanned`.
    """
    path, total = _index(folder, split), 0
    with replacing(path) as partial, partial.open("w", encoding="utf-8") as file:
        for shard in shards:
            samples = [{"key": each.key, "files": each.files, "texts": each.texts} for each in scanned(shard)]
            row = {"shard": shard.name, "size": shard.stat().st_size, "samples": samples}
            file.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")
            total += len(samples)
        file.write(json.dumps({"samples": total}) + "\n")
    return path


def content(path: Path, *, offset: int, size: int) -> bytes:
    """Bytes of a shard, of the file or of the one at its folder's address.

    Raises:
        InputError: the shard is gone or cut off, or its server does not give it.
    """
    try:
        with path.open("rb") as file:
            file.seek(offset)
            found = file.read(size)
    except FileNotFoundError:
        address = _address(path.parent)
        if not address:
            raise InputError(f"The shard {path} is gone. Restore it, and run the same command again.") from None
        found = _fetched(f"{address}/{path.name}", offset=offset, size=size)
    if len(found) != size:
        raise InputError(_damaged(path, f"{len(found)} of {size} bytes at {offset}"))
    return found


def place_of(path: Path) -> tuple[Path, int, int] | None:
    """The shard, offset and size of an image's path within one; None for a file of its own."""
    match = _PLACE.fullmatch(path.name) if f"{SUFFIX}@" in path.name else None
    return match and (path.with_name(match["shard"]), int(match["offset"]), int(match["size"]))


def file_of(path: str) -> str:
    """The file that an image is in: its shard, or itself."""
    shard, inside, _ = path.rpartition(f"{SUFFIX}@")
    return shard + SUFFIX if inside else path


def exists(path: Path) -> bool:
    """Check that an image's file is there, or its shard's folder has an address."""
    return path.is_file() or (path.name.endswith(SUFFIX) and bool(_address(path.parent)))


def _index(folder: Path, split: str) -> Path:
    return folder / f"{split}{INDEX}"


def _indexed(index: Path) -> Iterator[ShardSample]:
    with reading(index, "index of shards", fix="Write it again: python -m tasks.common.shards FOLDER."):
        sizes, count, total = {}, 0, None
        with index.open(encoding="utf-8") as lines:
            for row in map(json.loads, lines):
                if "shard" not in row:
                    total = row["samples"]
                    continue
                name, size = row["shard"], row["size"]
                if not isinstance(name, str) or Path(name).name != name or not name.endswith(SUFFIX):
                    raise ValueError(f"{name!r} is no name of a shard beside it")
                if index.parent / name in sizes or type(size) is not int:
                    raise ValueError(f"{name} is there twice, or has no size")
                sizes[index.parent / name] = size
                for each in row["samples"]:
                    count += 1
                    yield _sample_of_row(name, size, each)
        if count != total:
            raise ValueError(f"it has {count} samples, and its last line says {total}")
        if not count:
            raise ValueError("there is no sample in it")
        _require_sizes(sizes)


def _sample_of_row(shard: str, size: int, row: Mapping[str, Any]) -> ShardSample:
    files = {kind: Member(*place) for kind, place in row["files"].items()}
    for name, offset, length in files.values():
        if type(name) is not str or type(offset) is not int or type(length) is not int:
            raise ValueError(f"{name!r} has no place of the form [name, offset, size]")
        if not 0 <= offset <= offset + length <= size:
            raise ValueError(f"{name} is outside of its shard")
    texts = dict(row["texts"])
    if type(row["key"]) is not str or any(type(text) is not str for text in texts.values()):
        raise ValueError(f"the key or a text of sample {row['key']!r} is no text")
    return ShardSample(shard, row["key"], files, texts)


def _require_sizes(sizes: dict[Path, int]) -> None:
    """Check that shards are as large as their index says: another size is another shard, or one that is cut off."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(THREADS) as pool:
        for (path, size), found in zip(sizes.items(), pool.map(_size, sizes), strict=True):
            if found != size:
                raise InputError(
                    f"{path} has {found:,} bytes, and {size:,} in the index: it is cut off, or was written again. Copy "
                    "or download it again, or write the index again (python -m tasks.common.shards FOLDER)."
                )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        address = _address(path.parent)
        if not address:
            raise InputError(f"The shard {path} is in the index and absent. Restore it, or index the others.") from None
    return int(_asked("HEAD", f"{address}/{path.name}").headers.get("Content-Length", -1))


@cache
def _address(folder: Path) -> str:
    """The address of a folder's shards; empty where it has none."""
    file = folder / ADDRESS
    if not file.is_file():
        return ""
    with reading(file, "address of shards", fix="Write one line: http://…"):
        address = file.read_text(encoding="utf-8").strip().rstrip("/")
        if not re.fullmatch(r"https?://\S+", address):
            raise ValueError("no address that begins with http:// or https://")
    return address


def _fetched(url: str, *, offset: int, size: int) -> bytes:
    if not size:
        return b""
    answer = _asked("GET", url, {"Range": f"bytes={offset}-{offset + size - 1}"})
    if answer.status != 206:
        raise InputError(
            f"The server of {url} gives whole files alone, and samples are read at their places. Use a server that "
            "answers requests with a Range, as object stores and nginx do."
        )
    return answer.data


def _asked(method: str, url: str, headers: dict[str, str] | None = None) -> BaseHTTPResponse:
    from urllib3.exceptions import HTTPError

    try:
        answer = _pool(os.getpid()).request(method, url, headers=headers)
    except HTTPError as error:
        raise InputError(
            f"{url} cannot be reached, after {TRIES} tries ({error}). Run the same command again when it can: it goes "
            "on where it stopped."
        ) from error
    if answer.status not in (200, 206):
        raise InputError(
            f"{url} is not given (status {answer.status}). Fix the address in {ADDRESS}, or put the shard there."
        )
    return answer


@cache
def _pool(process: int) -> PoolManager:
    """Connections of this process: a forked one must not share them."""
    from urllib3 import PoolManager, Retry, Timeout

    again = Retry(total=TRIES - 1, backoff_factor=WAIT, status_forcelist=(429, 500, 502, 503, 504))
    return PoolManager(retries=again, timeout=Timeout(TIMEOUT), maxsize=THREADS)


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


def _sample(archive: tarfile.TarFile, shard: Path, key: str, members: dict[str, tarfile.TarInfo]) -> ShardSample:
    files = {kind: Member(each.name, each.offset_data, each.size) for kind, each in members.items()}
    kinds = [kind for kind in INLINE if kind in members and not (kind == "json" and "txt" in members)]
    texts = {kind: _text(archive, members[kind], shard, key) for kind in kinds}
    return ShardSample(shard.name, key, files, texts)


def _text(archive: tarfile.TarFile, member: tarfile.TarInfo, shard: Path, key: str) -> str:
    if member.size > LARGEST_TEXT:
        raise InputError(f"{shard}: {member.name} of sample {key} has {member.size:,} bytes, too many for a text.")
    try:
        return archive.extractfile(member).read().decode("utf-8")
    except ValueError as error:
        raise InputError(f"{shard}, sample {key}: its text cannot be read ({error}). Write the shard again.") from error


def main(folder: Path) -> None:
    """Write the index of every split of a folder."""
    splits: dict[str, list[Path]] = {}
    for shard in sorted(folder.glob(f"*{SUFFIX}")):
        splits.setdefault(shard.stem.rpartition("-")[0] or shard.stem, []).append(shard)
    if not splits:
        raise InputError(f"{folder} has no shards (*{SUFFIX}). Give the folder that holds them.")
    for split, shards in splits.items():
        print(write_index(folder, split, shards))


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except (InputError, IndexError) as error:
        sys.exit(str(error) if isinstance(error, InputError) else "python -m tasks.common.shards FOLDER")
