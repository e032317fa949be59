"""Tables as data: which published rows, which columns, in what order.

A table is a TOML or JSON file of one of two shapes. With `columns` it has a row per model:

    title = "Semantic segmentation on ADE20K"
    facts = ["resolution"]                 # columns of PublishedRow to show beside the model
    [[published]]                          # rows in which each of these fields has that value
    source = "arXiv 2208.10442"
    table = "Table 8"
    [[columns]]
    title = "mIoU"
    task = "ade20k"
    split = "val"
    metric = "mIoU"
    protocol = "single-scale"              # when the published rows have several
    own = "why no row of ours belongs here"    # when none does
    [[models]]                             # the order, when it is not that of the published rows
    model = "BEiT-3"

With `lines` instead it has a row per benchmark, and compares `model` with the best before it (`overview.toml`).
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from backbones.errors import InputError, unknown
from backbones.files import reading
from leaderboards.published import COLUMNS, PublishedRow

FOLDER = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Column:
    """One metric of one split. own: why no row of the harness belongs here; empty where such rows do."""

    task: str
    split: str
    metric: str
    title: str = ""
    protocol: str = ""
    own: str = ""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A benchmark of an overview, with one or several numbers."""

    category: str
    task: str
    dataset: str
    metric: str
    of: tuple[Column, ...]
    previous: str  # model of the best number before
    previous_title: str = ""  # as the table calls it


@dataclass(frozen=True, kw_only=True)
class TableSpec:
    """A table to be filled; see the module."""

    name: str
    title: str
    published: tuple[Mapping[str, Any], ...] = ()
    columns: tuple[Column, ...] = ()
    models: tuple[Mapping[str, Any], ...] = ()
    facts: tuple[str, ...] = ()
    lines: tuple[Line, ...] = ()
    model: Mapping[str, Any] | None = None  # of an overview: the rows of the model that is compared

    def selects(self, row: PublishedRow) -> bool:
        """Check that a published row belongs to the table."""
        return any(matches(row, fields) for fields in self.published)

    @property
    def measured(self) -> tuple[Column, ...]:
        """Every metric of the table."""
        return self.columns or tuple(column for line in self.lines for column in line.of)


def matches(row: PublishedRow, wanted: Mapping[str, Any]) -> bool:
    """Check that a published row has these fields."""
    return all(getattr(row, name) == value for name, value in wanted.items())


def names() -> list[str]:
    """The tables of the package."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str | Path) -> TableSpec:
    """A table of the package by name, or one's own by the path of its file.

    Raises:
        UsageError: no such table.
        InputError: the file cannot be read as a table; the message says what is wrong.
    """
    path = Path(name)
    if path.suffix not in (".toml", ".json"):
        if str(name) not in names():
            raise unknown("table", str(name), names(), hint="Or give the path of a .toml or .json file of your own.")
        path = FOLDER / f"{name}.toml"
    try:
        text = path.read_text(encoding="utf-8-sig")
        given = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"The table {path} cannot be read: {error}. See `harness list tables` for an example."
        ) from error
    with reading(path, "table", fix="See `harness list tables` for an example."):
        return _spec(path, given)


def _spec(path: Path, given: Any) -> TableSpec:
    if not isinstance(given, dict):
        raise InputError(f"The table {path} is not a set of keys and values, as a table needs to be.")
    given = {"title": path.stem, **given, "name": path.stem}
    for key in ("columns", "lines"):
        given[key] = tuple(_part(path, Column if key == "columns" else Line, part) for part in given.get(key, ()))
    for key in ("published", "models"):
        given[key] = tuple(_fields(path, part) for part in given.get(key, ()))
    given["facts"] = tuple(_fields(path, dict.fromkeys(given.get("facts", ()))))
    if given.get("model") is not None:
        given["model"] = _fields(path, given["model"])
    spec = _part(path, TableSpec, given)
    if bool(spec.columns) == bool(spec.lines) or bool(spec.lines) != bool(spec.model):
        raise InputError(f"The table {path} needs [[columns]], or [[lines]] with a model, and not both.")
    return spec


def _part(path: Path, kind: type, given: Any) -> Any:
    known = {field.name: field for field in fields(kind)}
    if not isinstance(given, dict):
        raise InputError(f"The table {path}: a {kind.__name__.lower()} is keys and values, not {given!r}.")
    if kind is Line:
        given = {**given, "of": tuple(_part(path, Column, part) for part in given.get("of", ()))}
    if extra := given.keys() - known.keys():
        raise InputError(f"The table {path} has the unknown key {min(extra)}. Known here: {', '.join(known)}.")
    if absent := [name for name, field in known.items() if field.default is MISSING and name not in given]:
        raise InputError(f"The table {path}: a {kind.__name__.lower()} lacks {', '.join(absent)}.")
    return kind(**given)


def _fields(path: Path, wanted: Any) -> Mapping[str, Any]:
    if not isinstance(wanted, dict):
        raise InputError(f"The table {path}: {wanted!r} is not keys and values.")
    if extra := [name for name in wanted if name not in COLUMNS]:
        raise InputError(f"The table {path}: published rows have no column {extra[0]}. They have {', '.join(COLUMNS)}.")
    return wanted
