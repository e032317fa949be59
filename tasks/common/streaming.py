"""Reading JSON files whose content would not fit in memory, element by element."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from backbones.errors import InputError
from tasks.common.reading import RESTORE

_CHUNK = 1 << 22  # characters that are read at once
_LOOKAHEAD = 16  # an error this close to the end of what is read may be due to the cut: "tru", "-", "\\u00"
_BLANK = " \t\n\r"
_decode = json.JSONDecoder().raw_decode


def json_lists(path: Path, *, what: str) -> Iterator[tuple[str, Iterator[Any] | None]]:
    """The fields of a JSON object in the file's order, each with its elements; None for one that is not a list.

    Elements are read as they are asked for, and those of a field that is not asked for are skipped.

    Args:
        what: the file in words, for messages.

    Raises:
        InputError: absent, not JSON, or not an object.
    """
    try:
        file = path.open(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(
            f"{path} ({what}) is absent. Put it there, or point --data at the folder that has it."
        ) from None
    except OSError as error:
        raise InputError(f"{path} ({what}) cannot be read: {error}.") from error
    with file:
        yield from _fields(_Text(file, where=f"{path} ({what})"))


def json_list(path: Path, name: str, *, what: str) -> Iterator[Any]:
    """The elements of one list of a JSON object, read as they are asked for.

    Raises:
        InputError: as `json_lists`, or there is no such list.
    """
    found = False
    for field, rows in json_lists(path, what=what):
        if field == name and rows is not None:
            found = True
            yield from rows
    if not found:
        raise InputError(f"{path} has no field '{name}', a list. {RESTORE}")


def _fields(text: _Text) -> Iterator[tuple[str, Iterator[Any] | None]]:
    if text.next() != "{":
        raise text.error("Expecting '{', an object with lists in it")
    text.skip("{")
    while text.next() != "}":
        name = text.value()
        text.skip(":")
        if text.next() == "[":
            elements = _elements(text)
            yield name, elements
            for _ in elements:  # what was not asked for
                pass
        else:
            text.value()
            yield name, None
        if text.next() != "}":
            text.skip(",")
    text.skip("}")
    if text.next():
        raise text.error("Extra data")


def _elements(text: _Text) -> Iterator[Any]:
    text.skip("[")
    while text.next() != "]":
        yield text.value()
        if text.next() != "]":
            text.skip(",")
            if text.next() == "]":
                raise text.error("Expecting value")
    text.skip("]")


class _Text:
    """A file's text, of which no more is kept than what is not read yet."""

    def __init__(self, file: TextIO, *, where: str) -> None:
        self._file = file
        self._where = where
        self._text = ""
        self._at = 0
        self._before = 0  # characters of the file in front of `_text`

    def next(self) -> str:
        """The next character that is not blank, "" at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _BLANK:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def skip(self, character: str) -> None:
        if self.next() != character:
            raise self.error(f"Expecting '{character}'")
        self._at += 1

    def value(self) -> Any:
        """The next value."""
        self.next()
        while True:
            try:
                value, end = _decode(self._text, self._at)
            except RecursionError:
                raise self.error("Nested too deeply") from None
            except json.JSONDecodeError as error:
                cut = error.pos >= len(self._text) - _LOOKAHEAD or error.msg.startswith("Unterminated string")
                if not (cut and self._more()):
                    raise self.error(error.msg, at=error.pos) from None
            else:
                # A number that ends with what is read may go on behind it.
                if end <= len(self._text) - _LOOKAHEAD or not self._more():
                    self._at = end
                    return value

    def error(self, problem: str, *, at: int | None = None) -> InputError:
        position = self._before + (self._at if at is None else at)
        return InputError(f"{self._where} cannot be read: {problem} (character {position:,}). {RESTORE}")

    def _more(self) -> bool:
        # As much again as a value that is not complete yet has, so that a long one is not tried too often.
        try:
            chunk = self._file.read(max(_CHUNK, len(self._text) - self._at))
        except (OSError, UnicodeDecodeError) as error:
            raise self.error(str(error), at=len(self._text)) from error
        if not chunk:
            return False
        self._before += self._at
        self._text = self._text[self._at :] + chunk
        self._at = 0
        return True
