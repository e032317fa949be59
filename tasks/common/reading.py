"""Reading annotation files, with errors that say what is wrong and where."""

from __future__ import annotations

import contextlib
import gc
import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from backbones.errors import InputError
from backbones.files import reading

T = TypeVar("T")
RESTORE = "Fix the file, or download it again if it is a released one."


def read_json(path: Path, *, what: str, shrink: Callable[[dict], Any] | None = None) -> Any:
    """The content of a JSON file.

    Args:
        what: the file in words, for messages, such as "the Karpathy split of COCO".
        shrink: replaces each object as soon as it is read, the inner ones first; for files whose whole content would
            take gigabytes.

    Raises:
        InputError: absent, or not JSON.
    """
    try:
        with reading(path, what, fix=RESTORE):
            return json.loads(path.read_text(encoding="utf-8"), object_hook=shrink)
    except InputError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        raise InputError(
            f"{path} ({what}) is absent. Put it there, or point --data at the folder that has it."
        ) from None


def read_text(path: Path, *, what: str) -> str:
    """The content of a text file.

    Raises:
        InputError: absent, or not UTF-8.
    """
    with reading(path, what, fix=RESTORE):
        return path.read_text(encoding="utf-8")


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """Read without the cycle collector, which would walk through all that is read so far again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def read_lines(path: Path, *, what: str) -> Iterator[tuple[str, Any]]:
    """(file and line, content) of each line of a JSON-lines file; empty lines are left out.

    Raises:
        InputError: absent, or a line that is not JSON; the message says which.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    where = f"{path}, line {number}"
                    yield where, _json_line(line, where=f"{where} ({what})")
    except FileNotFoundError:
        raise InputError(f"{path} ({what}) is absent. Put it there.") from None
    except (UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path} ({what}) cannot be read: {error}. {RESTORE}") from error


def _json_line(line: str, *, where: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise InputError(f"{where} is not JSON: {line.strip()[:80]!r}. {RESTORE}") from None


_remembered: dict[tuple[Any, ...], Any] | None = None  # values of `Remembered` functions; None outside `parsed_once`


@contextlib.contextmanager
def parsed_once() -> Iterator[None]:
    """Keep what `Remembered` functions read, so that a file is parsed once for all splits and for the labels.

    Leaving the outermost of nested contexts forgets everything: what was read may be large.
    """
    global _remembered
    outermost = _remembered is None
    if outermost:
        _remembered = {}
    try:
        yield
    finally:
        if outermost:
            _remembered = None


class Remembered(Generic[T]):
    """A function of a file that, within `parsed_once`, reads it once for as long as the file stays the same.

    Its value must not be changed.
    """

    def __init__(self, read: Callable[..., T]) -> None:
        self._read = read

    def __call__(self, path: Path, **options: Hashable) -> T:
        if _remembered is None:
            return self._read(path, **options)
        key = self._key(path, options)
        if key not in _remembered:
            _remembered[key] = self._read(path, **options)
        return _remembered[key]

    def keep(self, path: Path, value: T) -> None:
        """Remember the value of a file that was just read for something else."""
        if _remembered is not None:
            _remembered[self._key(path, {})] = value

    def _key(self, path: Path, options: Mapping[str, Hashable]) -> tuple[Any, ...]:
        return self, path.absolute(), _state(path), *sorted(options.items())


def _state(path: Path) -> tuple[int, int] | None:
    """Stamp that changes with a file's content; None for a file that is absent."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def field(row: Any, name: str, *, where: str) -> Any:
    """One field of an annotation.

    Raises:
        InputError: the annotation has no such field; the message says where.
    """
    try:
        return row[name]
    except (KeyError, TypeError, IndexError):
        raise InputError(f"{where} has no field '{name}': {str(row)[:80]}. {RESTORE}") from None


def repeated(ids: Iterable[Hashable] | Mapping[Hashable, int]) -> list[Any]:
    """Ids that occur more than once, each once, in the order of their first appearance.

    Args:
        ids: the ids, or how often each occurs.
    """
    return [name for name, count in Counter(ids).items() if count > 1]


def require_unique(ids: Iterable[Hashable], *, what: str, where: Path | str) -> None:
    """Check that no id occurs twice.

    Args:
        what: the ids in words, such as "image id".
        where: the file that they are from.

    Raises:
        InputError: the message lists the first five.
    """
    if duplicates := repeated(ids):
        raise InputError(f"{where} has {len(duplicates):,} {what}(s) twice: {listed(duplicates)}. {RESTORE}")


def listed(examples: Collection[Any], *, most: int = 5) -> str:
    """The first examples in words: "1, 2, 3, 4, 5 and 7 more"."""
    shown = ", ".join(str(example) for example in list(examples)[:most])
    return shown if len(examples) <= most else f"{shown} and {len(examples) - most:,} more"


def are_finite(values: Any) -> bool:
    """Check that a value of a JSON file is a list of finite numbers; one sum decides for all of them."""
    try:
        return isinstance(values, list) and math.isfinite(sum(values))
    except (TypeError, OverflowError):
        return False
