"""Samples whose prediction differs between two runs."""

from __future__ import annotations

import difflib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from backbones.errors import InputError
from harness.predictions import read
from harness.workdir import write_bytes
from tasks.adapter import Sample, TaskAdapter

CANDIDATES = 100  # samples whose gain is computed: those whose predictions differ most


@dataclass(frozen=True, kw_only=True)
class Change:
    """A sample with both predictions. gain: primary metric of this sample alone, the first run minus the other."""

    id: str
    one: dict[str, Any]
    other: dict[str, Any]
    size: float
    gain: float | None = None


def changed(one: Path, other: Path) -> tuple[list[Change], int]:
    """The samples whose records differ, the largest differences first, and the number of samples of both files."""
    left, right = ({record["id"]: record for record in read(path)} for path in (one, other))
    shared = [name for name in left if name in right]
    found = [
        Change(id=name, one=left[name], other=right[name], size=_apart(left[name], right[name])) for name in shared
    ]
    return sorted((change for change in found if change.size > 0), key=lambda change: -change.size), len(shared)


def _apart(one: Any, other: Any) -> float:
    """Difference of two values of a record, from 0 (equal) to 1."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        names = [name for name in one if name != "id"]
        return float(np.mean([_apart(one[name], other.get(name)) for name in names])) if names else 0.0
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        left, right = np.asarray(one), np.asarray(other)
        if left.shape != right.shape:
            return 1.0
        scale = np.abs(left).astype(float).sum() + np.abs(right).astype(float).sum()
        return float(np.abs(left.astype(float) - right.astype(float)).sum() / scale) if scale else 0.0
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if len(one) != len(other):
            return 1.0
        return float(np.mean([_apart(a, b) for a, b in zip(one, other, strict=True)])) if one else 0.0
    if isinstance(one, str) and isinstance(other, str):
        return 0.0 if one == other else 1 - difflib.SequenceMatcher(None, one, other).ratio() / 2
    if isinstance(one, float) and isinstance(other, float):
        scale = abs(one) + abs(other)
        return abs(one - other) / scale if scale else 0.0
    return 0.0 if one == other else 1.0


def with_gains(
    changes: Sequence[Change], adapter: TaskAdapter, samples: Sequence[Sample], *, labels: Any
) -> list[Change]:
    """The changes with their gains, the largest first; unchanged where the task scores no sample by itself.

    Args:
        labels: of the data folder, see `TaskAdapter.labels`.
    """
    known = {sample.id for sample in samples}
    found = []
    for change in [change for change in changes if change.id in known][:CANDIDATES]:
        try:
            own = adapter.subset(samples, {change.id})
        except InputError:
            return list(changes)
        scores = [_alone(adapter, own, change.id, record, labels) for record in (change.one, change.other)]
        found.append(Change(**{**vars(change), "gain": scores[0] - scores[1] if None not in scores else None}))
    return sorted(found, key=lambda change: (change.gain is None, -abs(change.gain or 0), -change.size))


def _alone(
    adapter: TaskAdapter, own: Sequence[Sample], name: str, record: Mapping[str, Any], labels: Any
) -> float | None:
    measured = {one.metric: one for one in adapter.score({name: record}, own, labels=labels)}
    primary = measured.get(adapter.primary.name)
    if primary is None or primary.unavailable or primary.of:
        return None
    value = primary.value
    return None if np.isnan(value) else value


def write_pictures(
    changes: Sequence[Change],
    adapter: TaskAdapter,
    samples: Sequence[Sample],
    root: Path,
    folder: Path,
    *,
    labels: Any,
) -> list[Path]:
    """A PNG for each change, the first run's prediction above the other's.

    Args:
        labels: of the data folder, see `TaskAdapter.labels`.

    Raises:
        InputError: an image that cannot be opened, or a file that cannot be written.
    """
    from PIL import Image

    by_id = {sample.id: sample for sample in samples}
    paths = []
    for change in changes:
        pair = [adapter.picture(by_id[change.id], record, root, labels=labels) for record in (change.one, change.other)]
        sheet = Image.new("RGB", (max(each.width for each in pair), sum(each.height for each in pair)), "white")
        sheet.paste(pair[0], (0, 0))
        sheet.paste(pair[1], (0, pair[0].height))
        content = io.BytesIO()
        sheet.save(content, "PNG")
        path = folder / f"{change.id.replace('/', '_')}.png"
        write_bytes(path, content.getvalue())
        paths.append(path)
    return paths


def shown(record: Mapping[str, Any]) -> str:
    """A record in a few words: its fields without the id; arrays by their shape."""
    parts = []
    for name, value in record.items():
        if name == "id":
            continue
        text = f"{value.dtype}{list(value.shape)}" if isinstance(value, np.ndarray) else str(value)
        parts.append(f"{name}: {text[:60]}{'…' if len(text) > 60 else ''}")
    return ", ".join(parts)
