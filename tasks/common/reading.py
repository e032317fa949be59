"""Reading annotation files, with errors that say what is wrong and where."""

from __future__ import annotations

import contextlib
import gc
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

from backbones.errors import InputError

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
        return json.loads(path.read_text(encoding="utf-8"), object_hook=shrink)
    except FileNotFoundError:
        raise InputError(
            f"{path} ({what}) is absent. Put it there, or point --data at the folder that has it."
        ) from None
    except (ValueError, OSError) as error:
        raise InputError(f"{path} ({what}) cannot be read: {error}. {RESTORE}") from error


def read_text(path: Path, *, what: str) -> str:
    """The content of a text file.

    Raises:
        InputError: absent, or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} ({what}) cannot be read: {error}.") from error


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
    """(where it stands, content) of each line of a JSON-lines file; empty lines are left out.

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
    except ValueError:
        raise InputError(f"{where} is not JSON: {line.strip()[:80]!r}. {RESTORE}") from None


class Remembered(Generic[T]):
    """A function of a file that reads it once for as long as the file stays the same.

    For what is small and asked for several times in a run, such as a list of classes. The value must not be changed.
    """

    def __init__(self, read: Callable[[Path], T]) -> None:
        self._read = read
        self._values: dict[Path, tuple[tuple[int, int] | None, T]] = {}

    def __call__(self, path: Path) -> T:
        state = _state(path)
        known = self._values.get(path.absolute())
        if state is None or known is None or known[0] != state:
            self.keep(path, self._read(path), state=state)
        return self._values[path.absolute()][1]

    def keep(self, path: Path, value: T, *, state: tuple[int, int] | None = None) -> None:
        """Remember the value of a file that was just read for something else."""
        self._values[path.absolute()] = (state or _state(path), value)


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
