"""Records of a predictions file as they are read: a line each, and the arrays beside them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

_DTYPES = {np.dtype(kind).newbyteorder("<").str for kind in "?bBhHiIlLqQefd"}


def parsed(line: bytes) -> dict[str, Any]:
    """One record.

    Raises:
        ValueError: not a JSON object with an id, a name twice, or NaN, which JSON does not have.
    """
    record = _decode(line.decode("utf-8").strip())
    if not isinstance(record, dict) or type(record.get("id")) not in (str, int):
        raise ValueError("no id")
    return record


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


_decode = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant).decode


def is_finite(array: np.ndarray) -> bool:
    """Check that an array has neither NaN nor infinity."""
    return array.dtype.kind not in "fc" or bool(np.isfinite(array).all())


class Arrays:
    """The arrays of a predictions file, in the file beside it."""

    def __init__(self, path: Path) -> None:
        file = path.with_suffix(".arrays")
        filled = file.is_file() and file.stat().st_size
        self._content = np.memmap(file, mode="r", dtype=np.uint8) if filled else np.empty(0, np.uint8)
        self._places: list[tuple[int, int]] = []  # first byte and size of each

    def loaded(self, record: dict[str, Any]) -> dict[str, Any]:
        """A record with its arrays.

        Raises:
            ValueError: an array is not in the file, or of no plain type.
        """
        loaded = {key: self._load(value) if _is_array(value) else value for key, value in record.items()}
        for key, value in loaded.items():
            if isinstance(value, np.ndarray) and not is_finite(value):
                raise ValueError(f"the {key} of {record['id']} has a number that is not finite")
        return loaded

    def require_apart(self) -> None:
        """Check that no byte belongs to two arrays.

        Raises:
            ValueError: one does.
        """
        places = np.array(sorted(self._places), np.int64).reshape(-1, 2)
        if (places[1:, 0] < places[:-1].sum(1)).any():
            raise ValueError("two arrays have the same bytes")

    def _load(self, value: dict[str, list]) -> np.ndarray:
        offset, dtype, shape = value["array"]
        if not all(type(size) is int and size >= 0 for size in [offset, *shape]) or dtype not in _DTYPES:
            raise ValueError("no place, type and shape of an array")
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if size == 0:
            return np.empty(shape, dtype)
        if offset + size > len(self._content):
            raise ValueError("the arrays file is absent or too short")
        self._places.append((offset, size))
        return self._content[offset : offset + size].view(dtype).reshape(shape)


def _is_array(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"array"}
