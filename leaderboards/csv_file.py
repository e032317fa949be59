"""CSV files that several processes add rows to, under a lock: appended to, or replaced as a whole."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from backbones.errors import InputError
from backbones.files import lock, replacing

_CHUNK = 1 << 20  # bytes
_told: set[Path] = set()  # folders without locks


class ResultsError(InputError):
    """A results file that cannot be read or written."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the file's lock (advisory, on a file beside it that stays)."""
    with path.with_name(path.name + ".lock").open("w") as file:
        if not lock(file, wait=True) and path.parent not in _told:
            _told.add(path.parent)
            print(
                f"{path}: this file system has no locks, so only one process at a time may write there.",
                file=sys.stderr,
            )
        yield


def read(path: Path, needed: Sequence[str] = ()) -> tuple[tuple[str, ...], list[dict[str, str]]]:
    """The columns of a file, and its rows.

    A last line that is cut off, as a power cut leaves it, is no row.

    Args:
        needed: columns without which it is not a results file.

    Raises:
        ResultsError: it cannot be read, or a row has more or fewer cells than there are columns.
    """
    rows: list[list[str]] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(_without_nul(file))
            columns = tuple(next(lines, ()))
            _require_columns(path, columns, needed)
            rows.extend(row for row in lines if row)
    except (OSError, ValueError, csv.Error) as error:
        raise ResultsError(
            f"{path} cannot be read after row {len(rows)} ({error}). Fix or remove what follows it, and save the file "
            "as UTF-8."
        ) from error
    if rows and len(rows[-1]) < len(columns) and not _ends_with_line(path):
        rows.pop()
    for number, row in enumerate(rows, 1):
        if len(row) != len(columns):
            more = "more" if len(row) > len(columns) else "fewer"
            raise ResultsError(
                f"{path}, row {number} has {more} cells than there are columns ({len(row)}, not {len(columns)}). Fix "
                "or remove that row: a comma in a text needs quotation marks around the text."
            )
    return columns, [dict(zip(columns, row, strict=True)) for row in rows]


def columns_of(path: Path, needed: Sequence[str] = ()) -> tuple[str, ...]:
    """The columns in a file's first line.

    Raises:
        ResultsError: see `read`.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            columns = tuple(next(csv.reader(file), ()))
    except (OSError, ValueError, csv.Error) as error:
        raise ResultsError(f"{path} cannot be read ({error}). Fix its first line, or give another --out.") from error
    _require_columns(path, columns, needed)
    return columns


def append(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]], *, absent: Sequence[str]) -> bool:
    """Add rows at a file's end, which takes as long for a large file as for a small one but for reading it once.

    Args:
        columns: of the file.
        absent: texts that nothing in the file has to be replaced for when it does not have them.

    Returns:
        False, with nothing written, where the file has one of the texts, or ends in the middle of a row.

    Raises:
        OSError: it cannot be written; it is as it was.
    """
    if not (_lacks(path, absent) and _ends_with_line(path)):
        return False
    text = io.StringIO(newline="")
    csv.DictWriter(text, columns, restval="").writerows(rows)
    content = text.getvalue().encode()
    with path.open("r+b", buffering=0) as file:
        before = file.seek(0, io.SEEK_END)
        try:
            written = 0
            while written < len(content):  # at once, unless the disk is full
                written += file.write(content[written:])
            os.fsync(file.fileno())
        except BaseException:
            file.truncate(before)
            raise
    return True


def replace(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a file anew, in one move."""
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


def _without_nul(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        if "\0" in line:
            raise ValueError("a NUL character")
        yield line


def _require_columns(path: Path, columns: Sequence[str], needed: Sequence[str]) -> None:
    if absent := [name for name in needed if name not in columns]:
        raise ResultsError(
            f"{path} is not a results file: it has no column {', '.join(absent[:3])}. Move it away, or give "
            "another --out."
        )
    if len(set(columns)) < len(columns):
        raise ResultsError(f"{path} has a column twice. Fix its first line, or give another --out.")


def _lacks(path: Path, texts: Sequence[str]) -> bool:
    """Check that a file has none of some texts, and that its quotation marks come in pairs."""
    wanted = [text.encode() for text in texts]
    if not all(wanted):
        return False
    quotes, before = 0, b""
    overlap = max(map(len, wanted), default=1) - 1
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            quotes += chunk.count(b'"')
            both = before + chunk
            if any(text in both for text in wanted):
                return False
            before = both[len(both) - overlap :] if overlap else b""
    return quotes % 2 == 0


def _ends_with_line(path: Path) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - 1))
        return file.read(1) in (b"\n", b"\r")
