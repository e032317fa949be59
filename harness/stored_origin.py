"""Columns about the model behind a predictions file, which the prediction stage stores beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backbones.errors import InputError
from backbones.files import reading
from harness import provenance
from harness.workdir import write_json
from leaderboards import rows
from leaderboards.rows import PREDICTED

CHECKSUM = "sha256"  # in the file beside the columns: as `provenance.predictions_sha256`
_FIX = "Remove it to score these predictions without what it says of their model."


def origin_file(predictions: Path) -> Path:
    """Path of the columns that the prediction stage stores beside its predictions."""
    return predictions.with_suffix(".json")


def write(predictions: Path, columns: Mapping[str, Any]) -> None:
    """Store columns beside predictions, with the checksum of these.

    Raises:
        InputError: the file cannot be written.
    """
    owned = {name: columns[name] for name in PREDICTED if name in columns}
    write_json(origin_file(predictions), {**owned, CHECKSUM: provenance.predictions_sha256(predictions)})


def read(predictions: Path, *, sha256: str | None = None) -> dict[str, Any]:
    """Columns about the model behind a predictions file; empty for predictions made elsewhere.

    Only columns that the prediction stage owns count: what is computed when predictions are scored cannot be said by
    the file.

    Args:
        sha256: of the predictions, to compare with the stored one; then `predictions_checked` is among the columns.

    Raises:
        InputError: the file is damaged, or the predictions are no longer what was predicted.
    """
    file = origin_file(predictions)
    # An official file may be a .json itself, or a folder beside a file of ours.
    if file == predictions or predictions.is_dir() or not file.exists():
        return {}
    with reading(file, "what the predictions say of their model", fix=_FIX):
        stored = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(stored, dict):
            raise ValueError("no JSON object")
        columns = {name: stored[name] for name in PREDICTED if name in stored}
        if unfit := rows.unfit(columns):
            raise ValueError(f"column {unfit[0]} holds {columns[unfit[0]]!r:.60}")
    if sha256 is None or CHECKSUM not in stored:
        return columns
    if stored[CHECKSUM] != sha256:
        raise InputError(
            f"{predictions} is not what was predicted: {file} has another checksum of it. Predict again, or copy the "
            f"predictions again with all files beside them. (Without {file.name} they are scored as anybody's.)"
        )
    return {**columns, "predictions_checked": "yes"}
