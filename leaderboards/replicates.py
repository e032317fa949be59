"""Bootstrap replicates of a run's metrics, so that two runs can be compared from their files alone.

`replicates.npz` holds `replicates`, float64 [metrics, draws], and `about`, JSON text with the other fields of
`Replicates` for each metric. The draws follow from the data hash, so draw k of two runs on the same data has the same
units.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from backbones.errors import InputError
from backbones.files import reason, replacing


@dataclass(frozen=True, kw_only=True, eq=False)
class Replicates:
    """One metric at each bootstrap draw. The fields have the names of `ResultRow`'s columns where they are the same."""

    task: str
    split: str
    metric: str
    metric_version: int
    unit: str
    value: float
    data_sha256: str
    draws_sha256: str  # of how often each draw has each unit, uint32 little-endian, draw by draw
    predictions_sha256: str
    run_id: str
    replicates: np.ndarray  # float64 [draws], in the metric's unit; NaN where a draw has no unit that counts

    @property
    def draws(self) -> int:
        return len(self.replicates)


_ABOUT = tuple(field.name for field in fields(Replicates) if field.name != "replicates")
_KINDS = dict.fromkeys(_ABOUT, (str,)) | {"metric_version": (int,), "value": (int, float)}
_SAME = ("task", "split", "metric", "metric_version", "unit", "data_sha256", "draws_sha256", "draws")


def write(path: Path, metrics: Sequence[Replicates]) -> None:
    """Write the replicates of several metrics, of as many draws each.

    Raises:
        InputError: the file cannot be written; the one that was there is unchanged.
    """
    about = json.dumps([{name: getattr(one, name) for name in _ABOUT} for one in metrics])
    values = np.array([one.replicates for one in metrics], dtype=float)
    try:
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez_compressed(file, about=np.array(about), replicates=values)
    except OSError as error:
        raise InputError(
            f"The bootstrap replicates cannot be written to {path} ({error.strerror}). Free some space or fix the "
            "permissions, and run the same command again."
        ) from error


def read(path: Path) -> list[Replicates]:
    """The replicates of each metric in a file.

    Raises:
        InputError: there is no such file, or it is not a file of replicates.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            about, values = json.loads(str(arrays["about"])), arrays["replicates"]
        if values.dtype != float or values.ndim != 2:
            raise ValueError(f"replicates of type {values.dtype} and shape {values.shape}")
        found = [Replicates(**one, replicates=row) for one, row in zip(about, values, strict=True)]
        if wrong := [name for one in found for name in _ABOUT if type(getattr(one, name)) not in _KINDS[name]]:
            raise ValueError(f"no {wrong[0]}")
    except Exception as error:  # whatever a damaged archive makes of itself
        raise InputError(
            f"{path} has no bootstrap replicates ({reason(error)}). Give the replicates.npz of a run's folder; "
            "`harness run` writes it when it scores."
        ) from error
    return found


def difference(one: Replicates, other: Replicates) -> np.ndarray:
    """`one` minus `other` draw by draw, float64 [draws]; its percentiles are the interval of the difference.

    Raises:
        InputError: different metrics, or replicates of different draws.
    """
    differing = [name for name in _SAME if getattr(one, name) != getattr(other, name)]
    if differing:
        raise InputError(
            f"The replicates of {one.metric} ({one.run_id}) and {other.metric} ({other.run_id}) cannot be subtracted: "
            f"they differ in {', '.join(differing)}. Compare the same metric over the same data; where the data are "
            "the same, score both runs with one version of the package."
        )
    return one.replicates - other.replicates
