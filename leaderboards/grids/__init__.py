"""Grids of ablation runs as data: rows of changes, columns of metrics, seeds.

A grid is a TOML file of this form; what is in brackets may be left out:

    title = "Ablation (e): text reconstruction"
    backbone = "multiway_nano"
    baseline = "both"                            # the row that the others are compared with
    seeds = [0, 1, 2]
    data = "toy"                                 # [default of --data]
    [pretraining]                                # [without it, fine-tuning begins with `weights`]
    recipe = "nano_masked"                       # the stage that rows change; those before it run once
    data = "toy"                                 # [default of --pretraining-data]
    weights = "none"                             # [random ones; by default those of the stage that the recipe names]
    set = { steps = 400 }                        # [recipe fields, of all rows]
    before = { nano_teacher = { steps = 100 } }  # [recipe fields of stages before it]
    [budget]                                     # [all of it]
    minutes = 30                                 # that a cell, or a stage of pretraining, may take
    limit = 500                                  # samples of each split
    [[columns]]
    task = "vqav2"
    split = "rest_val"
    metric = "accuracy"
    title = "VQAv2"                              # [the metric's name]
    recipe = "nano"                              # [by the backbone]
    set = { epochs = 3 }                         # [recipe fields, of all rows]
    [[rows]]
    name = "none"
    pretraining = { text_reconstruction = "none" }    # [recipe fields of the stage]
    finetuning = { lr = 1e-4 }                   # [recipe fields of every column]
    backbone = { layers = 4 }                    # [fields of the network, see backbones/config.py]
    weights = "FILE"                             # [that pretraining, or fine-tuning, begins with]
    published = { variant = "no text reconstruction" }  # [fields of published rows to show below]
    left_out = "why this row is published alone and cannot be run"     # [it is run]
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from backbones.errors import InputError, unknown
from leaderboards.published import COLUMNS

FOLDER = Path(__file__).parent
Settings = Mapping[str, Any]  # values by name, as TOML has them


@dataclass(frozen=True, kw_only=True)
class GridPretraining:
    """The stage whose result fine-tuning begins with; see the module."""

    recipe: str
    data: str = ""
    weights: str = ""
    set: Settings = field(default_factory=dict)
    before: Settings = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Limits of a cell; 0 is none."""

    minutes: float = 0
    limit: int = 0


@dataclass(frozen=True, kw_only=True)
class GridColumn:
    """A metric of a split, and how its task is fine-tuned."""

    task: str
    split: str
    metric: str
    title: str = ""
    recipe: str = ""
    set: Settings = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.title or f"{self.task} {self.split} {self.metric}"


@dataclass(frozen=True, kw_only=True)
class GridRow:
    """A named set of changes; left_out: why it is not run, where published numbers alone are shown."""

    name: str
    pretraining: Settings = field(default_factory=dict)
    finetuning: Settings = field(default_factory=dict)
    backbone: Settings = field(default_factory=dict)
    weights: str = ""
    published: Settings = field(default_factory=dict)
    left_out: str = ""

    @property
    def changes(self) -> tuple:
        """Everything that makes the row another one than its neighbours, in a comparable form."""
        parts = (self.pretraining, self.finetuning, self.backbone)
        return (*(tuple(sorted((key, str(value)) for key, value in part.items())) for part in parts), self.weights)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A grid; see the module. name: the file's."""

    name: str
    backbone: str
    baseline: str
    rows: tuple[GridRow, ...]
    columns: tuple[GridColumn, ...]
    seeds: tuple[int, ...]
    title: str = ""
    data: str = ""
    pretraining: GridPretraining | None = None
    budget: Budget = field(default_factory=Budget)

    @property
    def run_rows(self) -> tuple[GridRow, ...]:
        """The rows that are run."""
        return tuple(row for row in self.rows if not row.left_out)


def names() -> list[str]:
    """The grids of the package."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str | Path) -> Grid:
    """A grid of the package by name, or one's own by the path of its file.

    Raises:
        UsageError: no such grid.
        InputError: the file cannot be read as a grid; the message says what is wrong.
    """
    path = Path(name)
    if path.suffix != ".toml":
        if str(name) not in names():
            raise unknown("grid", str(name), names(), hint="Or give the path of a .toml file of your own.")
        path = FOLDER / f"{name}.toml"
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise InputError(f"The grid {path} cannot be read: {error}. The grids in {FOLDER} are examples.") from error
    return _grid(path, given)


def with_seeds(grid: Grid, seeds: Sequence[int]) -> Grid:
    """The grid with other seeds."""
    return replace(grid, seeds=tuple(seeds))


def _grid(path: Path, given: dict[str, Any]) -> Grid:
    parts = dict(given)
    for key, kind in (("rows", GridRow), ("columns", GridColumn)):
        found = parts.get(key, ())
        if not isinstance(found, list) or not found:
            raise InputError(f"The grid {path} has no [[{key}]]: it needs one or more.")
        parts[key] = tuple(_part(path, kind, one, place=f"[[{key}]] {at}") for at, one in enumerate(found, 1))
    for key, kind in (("pretraining", GridPretraining), ("budget", Budget)):
        if key in parts:
            parts[key] = _part(path, kind, parts[key], place=f"[{key}]")
    if isinstance(parts.get("seeds"), list):
        parts["seeds"] = tuple(parts["seeds"])
    grid = _part(path, Grid, parts | {"name": path.stem}, place="the file")
    _require_sound(path, grid)
    return grid


def _part(path: Path, kind: type, given: Any, *, place: str) -> Any:
    known = {one.name: one for one in fields(kind)}
    if not isinstance(given, dict):
        raise InputError(f"The grid {path}: {place} is keys and values, not {given!r}.")
    for key in given:
        if key not in known:
            raise InputError(f"The grid {path}: {place}: {unknown('key', key, known)}")
    needed = [name for name, one in known.items() if one.default is MISSING and one.default_factory is MISSING]
    if absent := [name for name in needed if name not in given]:
        raise InputError(f"The grid {path}: {place} lacks {', '.join(absent)}.")
    for key, value in given.items():
        if not isinstance(value, _TYPES.get(str(known[key].type), object)) or isinstance(value, bool):
            raise InputError(f"The grid {path}: {place}: {key} is {_WORDS[str(known[key].type)]}, not {value!r}.")
    return kind(**given)


_TYPES: dict[str, Any] = {
    "str": str, "int": int, "float": (int, float), "Settings": dict, "tuple[int, ...]": tuple,
}  # fmt: skip
_WORDS = {
    "str": "a text", "int": "a whole number", "float": "a number", "Settings": "keys and values",
    "tuple[int, ...]": "a list of whole numbers",
}  # fmt: skip


def _require_sound(path: Path, grid: Grid) -> None:
    """Check what the parts of a grid say of one another.

    Raises:
        InputError: they contradict each other; the message says where.
    """
    seen: dict[tuple, str] = {}
    for row in grid.rows:
        for key in ((row.name,), row.changes) if not row.left_out else ((row.name,),):
            if key in seen:
                same = "has the name" if key == (row.name,) else "changes the same"
                raise InputError(
                    f"The grid {path} has a row twice: {row.name!r} {same} as {seen[key]!r}. Remove one, or change it."
                )
            seen[key] = row.name
        if extra := [name for name in row.published if name not in COLUMNS]:
            raise InputError(
                f"The grid {path}, row {row.name!r}: {unknown('column of published rows', extra[0], COLUMNS)}"
            )
        if row.pretraining and grid.pretraining is None:
            raise InputError(
                f"The grid {path}, row {row.name!r} changes a pretraining, and the grid has none: add [pretraining] "
                "with its recipe."
            )
    if grid.baseline not in {row.name for row in grid.run_rows}:
        raise InputError(
            f"The grid {path} compares its rows with the baseline {grid.baseline!r}, which is no row that is run: "
            f"{', '.join(row.name for row in grid.run_rows)}. Name one of these, or add it."
        )
    places = [(column.task, column.split, column.metric, column.recipe, str(column.set)) for column in grid.columns]
    titles = [column.name for column in grid.columns]
    for found in (places, titles):
        if twice := next((at for at, place in enumerate(found) if place in found[:at]), None):
            raise InputError(f"The grid {path} has the column {titles[twice]!r} twice. Remove one.")
    if not grid.seeds or not all(isinstance(seed, int) and seed >= 0 for seed in grid.seeds):
        raise InputError(f"The grid {path}: seeds are whole numbers from 0, such as [0, 1, 2], not {list(grid.seeds)}.")
    if len(set(grid.seeds)) < len(grid.seeds):
        raise InputError(f"The grid {path} has a seed twice in {list(grid.seeds)}: it would give the same number.")
    if grid.budget.minutes < 0 or grid.budget.limit < 0:
        raise InputError(f"The grid {path}: minutes and limit of [budget] are 0 (none) or more.")
