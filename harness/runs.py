"""Runs as they are on disk, for comparing them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backbones.errors import InputError
from backbones.files import reading
from harness.workdir import PREDICTIONS, REPLICATES, RESULT
from leaderboards import replicates
from leaderboards.replicates import Replicates

Key = tuple[str, str, str]  # task, split, metric
# What two runs of one setting share; they differ in seed and in what follows from it.
_SETTING = ("backbone", "weights_sha256", "recipe_sha256", "recipe_altered", "predict_fields", "train_data_sha256")
_CELL = ("grid", "variant", *(name for name in _SETTING if name != "weights_sha256"))


@dataclass(frozen=True, kw_only=True)
class Run:
    """A scored run. rows: of its result.json, none where it is a file of replicates alone."""

    path: Path
    metrics: dict[Key, Replicates]
    rows: tuple[dict[str, Any], ...] = ()

    @property
    def seed(self) -> str:
        return str(self.rows[0].get("seed")) if self.rows else ""

    @property
    def setting(self) -> tuple:
        """Columns that runs of different seeds share; a file without rows is a setting of its own."""
        if not self.rows or self.rows[0].get("seed") is None:
            return (str(self.path),)
        # A row of a grid has weights of its own for each seed, pretrained with that seed.
        names = _CELL if self.rows[0].get("grid") else _SETTING
        return tuple(self.rows[0].get(name) for name in names)

    def width(self, key: Key) -> float:
        """Width of the interval of a metric, 0 where no row says it."""
        for row in self.rows:
            if (row["task"], row["split"], row["metric"]) == key and row.get("low") is not None:
                return float(row["high"]) - float(row["low"])
        return 0.0

    def predictions(self, split: str) -> Path | None:
        """The predictions file of a split, where the run has one."""
        file = self.path / PREDICTIONS / f"{split}.jsonl"
        return file if file.is_file() else None


def read(path: str | Path) -> Run:
    """A run from its folder, or from a file of replicates.

    Raises:
        InputError: there is no such run, or it was never scored.
    """
    path = Path(path)
    file = path / REPLICATES if path.is_dir() else path
    if not file.is_file():
        raise InputError(
            f"{path} is not a scored run: it has no {file}. Give the folder of a run, or a file that "
            "`harness score … --replicates FILE` wrote."
        )
    metrics = {(one.task, one.split, one.metric): one for one in replicates.read(file)}
    result = path / RESULT
    with reading(result, "rows of the run", fix="Score the run again to write it."):
        rows = tuple(json.loads(result.read_text())) if path.is_dir() and result.exists() else ()
        if absent := [name for row in rows for name in ("task", "split", "metric") if name not in row]:
            raise ValueError(f"a row has no {absent[0]}")
    return Run(path=path, metrics=metrics, rows=rows)


def by_setting(runs: Sequence[Run]) -> dict[str, dict[str, list[Run]]]:
    """Runs by name of their setting and by seed; runs that differ in the seed alone are one setting.

    A copy of a run, whose predictions are the same, is a setting of its own: it is given to be compared.
    """
    found: dict[tuple, list[Run]] = {}
    for run in runs:
        key = run.setting
        copies = {_digest(own) for own in found.get(key, ())}
        found.setdefault((*key, str(run.path)) if _digest(run) in copies else key, []).append(run)
    sides = {}
    for group in found.values():
        seeds: dict[str, list[Run]] = {}
        for run in group:
            seeds.setdefault(run.seed, []).append(run)
        sides[_name(group)] = seeds
    return sides


def _digest(run: Run) -> tuple:
    return tuple(sorted(one.predictions_sha256 for one in run.metrics.values()))


def _name(group: Sequence[Run]) -> str:
    return str(group[0].path) + (f" and {len(group) - 1} more seeds" if len(group) > 1 else "")
