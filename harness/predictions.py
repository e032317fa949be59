"""Predictions on disk: appended while they are made, one ordered file once they are complete.

    predictions/val/0-0.jsonl    appended and synced batch by batch, one file per process and start
    predictions/val/0-0.arrays   the arrays of those records, raw bytes one after another
    predictions/val.jsonl        every sample once, in the split's order; replaces the folder
    predictions/val.arrays

A record is one JSON object per line with the sample's "id". An array in it is written as
{"array": [offset, dtype, shape]}, its place in the file beside it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from backbones.errors import InputError
from backbones.files import move_into_place, reading, reason
from harness.records import Arrays, is_finite, parsed

Record = Mapping[str, Any]
AGAIN = "Remove the folder that it is in to predict these samples again."


class PredictionWriter:
    """Writer that appends records to files of its own; a batch is on disk when `append` returns."""

    def __init__(self, folder: Path, *, rank: int) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._path, self._lines = _new_file(folder, rank)
        except OSError as error:
            raise InputError(
                f"Predictions cannot be written to {folder} ({error.strerror}). Free some space (or inodes: df -i), or "
                "fix the permissions, and run the same command again."
            ) from error
        self._arrays: BinaryIO | None = None

    def append(self, records: Iterable[Record]) -> None:
        """Write records, each with its "id".

        Raises:
            InputError: the disk is full or gone, or a number is not finite; what was written before stays.
        """
        try:
            lines = "".join(self._line(record) for record in records)
            if self._arrays is not None:
                _sync(self._arrays)  # a line must never point at bytes that are not there
            self._lines.write(lines.encode())
            _sync(self._lines)
        except OSError as error:
            raise InputError(
                f"Predictions cannot be written to {self._path} ({error.strerror}). Free some space and run the same "
                "command again: it goes on with the samples that are missing."
            ) from error

    def close(self) -> None:
        for file in (self._lines, self._arrays):
            if file is not None:
                # After a failed write the buffer's flush fails again; the error has been reported.
                with contextlib.suppress(OSError):
                    file.close()

    def _line(self, record: Record) -> str:
        try:
            if any(not is_finite(value) for value in record.values() if isinstance(value, np.ndarray)):
                raise ValueError("not finite")
            line = json.dumps(self._storable(record), ensure_ascii=False, allow_nan=False) + "\n"
            line.encode()
        except UnicodeEncodeError:
            raise InputError(
                f"The id or a text of sample {record['id']!a} is no UTF-8, which predictions are written in. Rename "
                "the file, or fix the text."
            ) from None
        except ValueError:
            raise InputError(
                f"The prediction of {record['id']} has a number that is not finite: the weights diverged in training, "
                "or half precision overflowed. Predict with other weights, or with --set precision=fp32."
            ) from None
        return line

    def _storable(self, record: Record) -> dict[str, Any]:
        return {key: self._store(value) if isinstance(value, np.ndarray) else value for key, value in record.items()}

    def _store(self, array: np.ndarray) -> dict[str, Any]:
        if self._arrays is None:
            self._arrays = self._path.with_suffix(".arrays").open("ab")
        offset = self._arrays.tell()
        self._arrays.write(np.ascontiguousarray(array).tobytes())
        return {"array": [offset, array.dtype.str, list(array.shape)]}


def _new_file(folder: Path, rank: int) -> tuple[Path, BinaryIO]:
    """Create the next file of a process, atomically: two starts at once get different files."""
    for number in itertools.count():
        path = folder / f"{rank}-{number}.jsonl"
        with contextlib.suppress(FileExistsError):
            return path, path.open("xb")
    raise AssertionError


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def done(folder: Path) -> set[str]:
    """Ids of the records in a folder of parts.

    Raises:
        InputError: a damaged part.
    """
    return {record["id"] for path in _parts(folder) for record in _read_part(path)}


def merge(folder: Path, target: Path, ids: Sequence[str]) -> None:
    """Merge the parts of a complete split into one file in the order of `ids`, then remove them.

    Raises:
        InputError: an id is missing, duplicate or unknown, or a part is damaged; the parts are kept.
    """
    records = {}
    found = []
    for path in _parts(folder):
        arrays = Arrays(path)
        for record in _read_part(path):
            found.append(record["id"])
            with reading(path, f"predictions, record {record['id']}", fix=AGAIN):
                records[record["id"]] = arrays.loaded(record)
        with reading(path, "predictions", fix=AGAIN):
            arrays.require_apart()
    exactly_once(found, ids, where=folder)
    build = target.parent / f"{target.stem}.merging"
    shutil.rmtree(build, ignore_errors=True)
    writer = PredictionWriter(build, rank=0)
    writer.append(records[sample] for sample in ids)
    writer.close()
    merged = build / "0-0.jsonl"
    if merged.with_suffix(".arrays").exists():
        move_into_place(merged.with_suffix(".arrays"), target.with_suffix(".arrays"))
    move_into_place(merged, target)  # last: the split is complete from here on
    shutil.rmtree(build)
    shutil.rmtree(folder)


def read(path: Path) -> list[dict[str, Any]]:
    """Read all records of a predictions file.

    Raises:
        InputError: no such file, a line that is not a record, or arrays that are not in the file beside it.
    """
    if not path.is_file():
        raise InputError(f"No predictions file at {path}. `harness predict` writes one, a JSON record per line.")
    records = []
    with reading(path, "predictions", fix="Predict again, or copy both files of the predictions again."):
        arrays = Arrays(path)
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    record = arrays.loaded(parsed(line))
                    records.append({**record, "id": str(record["id"])})
                except Exception as error:  # whatever a damaged line makes of itself
                    shown = line.decode(errors="replace").strip()[:80]
                    raise InputError(
                        f'{path}, line {number} is not a record of the form {{"id": "…", …}} ({reason(error)}): '
                        f"{shown!r}."
                    ) from None
        arrays.require_apart()
    return records


def exactly_once(found: Sequence[str], expected: Sequence[str], *, where: Path) -> None:
    """Check that predictions hold each sample of a split once.

    Raises:
        InputError: names the ids that are missing, duplicate or unknown.
    """
    wanted = set(expected)
    counts = Counter(found)
    problems = {
        "missing": [sample for sample in expected if sample not in counts],
        "duplicate": [sample for sample, count in counts.items() if count > 1],
        "unknown": [sample for sample in counts if sample not in wanted],
    }
    if any(problems.values()):
        listed = "; ".join(
            f"{len(ids)} {kind}: {', '.join(ids[:5])}{' …' if len(ids) > 5 else ''}"
            for kind, ids in problems.items()
            if ids
        )
        raise InputError(
            f"{where} does not hold each of the split's {len(expected)} samples once ({listed}). Predict the same "
            "split with the same --limit, or name with --split the one that these predictions are of."
        )


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jsonl"))


def _read_part(path: Path) -> Iterator[dict[str, Any]]:
    """Read the records of a part, without a last line that a killed process left unfinished."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.endswith(b"\n"):
                with reading(path, f"predictions, line {number}", fix=AGAIN):
                    record = parsed(line)
                yield record
