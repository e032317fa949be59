"""Identity of a cell: everything that decides its number, defaults included, as canonical JSON with its sha256."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from harness.provenance import library_versions, package_version

CODE = "code"  # key of the part about the code, at every level
FOLDER_NAME = 16  # characters of the key that name a cell's folder
SHOWN = 8  # characters of a hash that people are shown
PACKAGE = Path(__file__).resolve().parents[2]
# The rooms whose code decides numbers; the wording of commands does not.
ROOMS, WITHOUT = ("backbones", "tasks", "harness"), PACKAGE / "harness" / "commands"

Identity = Mapping[str, Any]


def plain(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The identity as JSON has it, so that a stored one compares equal: tuples are lists, keys are texts."""
    return json.loads(json.dumps(identity))


def key(identity: Identity) -> str:
    """Sha256 of the identity as canonical JSON: sorted keys, no spaces, UTF-8."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def without_code(identity: Any) -> Any:
    """The identity without what it says about the code, that of stages of pretraining included."""
    if not isinstance(identity, Mapping):
        return identity
    return {name: without_code(value) for name, value in identity.items() if name != CODE}


@cache
def code() -> dict[str, str]:
    """The package's version, a hash of its code, and the versions of the libraries that move numbers.

    The hash is over the paths and contents of all Python files and tokenizers of `ROOMS`: it is known of a wheel and of
    local changes alike, and a commit that changes no code leaves it as it is.
    """
    digest = hashlib.sha256()
    for path in sorted(file for room in ROOMS for file in (PACKAGE / room).rglob("*") if _decides(file)):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(PACKAGE).as_posix()} {len(content)}\n".encode() + content)
    return {"package": package_version(), "source": digest.hexdigest(), "libraries": library_versions()}


def _decides(file: Path) -> bool:
    return file.suffix in (".py", ".spm") and WITHOUT not in file.parents


def difference(one: Identity, other: Identity) -> dict[str, tuple[Any, Any]]:
    """The fields in which two identities differ, by path, with both values; None of one that lacks the field.

    Of a part that one side lacks as a whole, such as a stage of pretraining, the part alone is named.
    """
    return dict(_differing(one, other, ()))


def _differing(one: Any, other: Any, path: tuple[str, ...]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for name in dict.fromkeys((*one, *other)):
            yield from _differing(one.get(name), other.get(name), (*path, name))
    elif one != other:
        yield ".".join(path), (_short(one), _short(other))


def _short(value: Any) -> Any:
    """A value for people: the name of a part, and the beginning of a hash."""
    if isinstance(value, Mapping):
        recipe = value.get("recipe")
        return recipe["name"] if isinstance(recipe, Mapping) else value.get("name", "…")
    is_hash = isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")
    return value[:SHOWN] if is_hash else value


def words(found: Mapping[str, tuple[Any, Any]]) -> str:
    """The differences in one line, each with the value of the first identity."""
    return ", ".join(f"{path.rpartition('.')[2]}={_word(one)}" for path, (one, _) in found.items())


def _word(value: Any) -> str:
    return "none" if value is None or value == "" else str(value)
