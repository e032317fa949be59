"""Damage to a file's content: of its bytes, of its lines, and of single values where it is JSON."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

HOSTILE = (
    None, True, False, -1, 0, 1, 2**31, 2**63, 10**30, -(2**64), 1.5, -0.5, 1e308, float("nan"), float("inf"), "", "\0",
    "x", "../../../etc/passwd", "/", "=1+1", "\ud800", "é" * 300, [], {}, [[]], [None], {"array": [0, "<f4", [1]]},
    {"array": [-4, "|O", [9]]}, ["a", "b"], {"": ""}, "nan", "1e400",
)  # fmt: skip


def mutated(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Damaged content, and the damage in words."""
    kinds: list[Callable[[bytes, random.Random], bytes]] = [
        _truncated, _flipped, _flipped, _zeroed, _without_part, _doubled, _noise, _line_gone, _lines_swapped,
    ]  # fmt: skip
    if content.lstrip()[:1] in (b"{", b"["):
        kinds += [_value_replaced] * 8 + [_key_gone] * 3
    kind = rng.choice(kinds)
    return kind(content, rng), kind.__name__.lstrip("_")


def _truncated(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _flipped(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 4))):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _zeroed(content: bytes, rng: random.Random) -> bytes:
    start, length = rng.randrange(len(content) + 1), rng.randrange(1, 64)
    return content[:start] + bytes(len(content[start : start + length])) + content[start + length :]


def _without_part(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content) + 1)
    return content[:start] + content[start + rng.randrange(1, 64) :]


def _doubled(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content) + 1)
    part = content[start : start + rng.randrange(1, 200)]
    return content[:start] + part + content[start:]


def _noise(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content) + 1)
    noise = rng.randbytes(rng.randrange(1, 16))
    return content[:start] + noise + content[start + len(noise) :]


def _line_gone(content: bytes, rng: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    if lines:
        del lines[rng.randrange(len(lines))]
    return b"".join(lines)


def _lines_swapped(content: bytes, rng: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    if len(lines) > 1:
        one, two = rng.sample(range(len(lines)), 2)
        lines[one], lines[two] = lines[two], lines[one]
    return b"".join(lines)


def _value_replaced(content: bytes, rng: random.Random) -> bytes:
    return _json_changed(content, rng, lambda holder, key: holder.__setitem__(key, rng.choice(HOSTILE)))


def _key_gone(content: bytes, rng: random.Random) -> bytes:
    return _json_changed(content, rng, lambda holder, key: holder.__delitem__(key))


def _json_changed(content: bytes, rng: random.Random, change: Callable[[Any, Any], None]) -> bytes:
    """The content with one place of its JSON changed, of one line where it is JSON lines."""
    try:
        documents = [json.loads(content)]
        separator = ""
    except ValueError:
        try:
            documents = [json.loads(line) for line in content.splitlines() if line.strip()]
            separator = "\n"
        except ValueError:
            return _flipped(content, rng)
    places = []
    _collect(rng.choice(documents), places)
    if places:
        change(*rng.choice(places))
    return "".join(json.dumps(document) + separator for document in documents).encode("utf-8", "surrogatepass")


def _collect(value: Any, places: list[tuple[Any, Any]]) -> None:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(pairs):
        places.append((value, key))
        _collect(inner, places)
