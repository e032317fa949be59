"""Features of images and texts: from prediction records, and from files made elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from backbones.errors import InputError
from backbones.files import reason

KINDS = ("image", "text")
ARRAYS = tuple(f"{kind}_{what}" for kind in KINDS for what in ("ids", "features"))


def stacked(predictions: Mapping[str, Mapping[str, Any]], ids: Sequence[str]) -> np.ndarray:
    """The features of records: float32 [ids, dim].

    Raises:
        InputError: a record without a feature, of another length than the first, or not finite; the message names the
            sample.
    """
    rows = [_feature(predictions[name], name) for name in ids]
    for name, row in zip(ids, rows, strict=True):
        if len(row) != len(rows[0]):
            raise InputError(
                f"The feature of {name} has {len(row)} numbers, that of {ids[0]} {len(rows[0])}. All of them must come "
                "from one model: predict again."
            )
        if not np.isfinite(row).all():
            raise InputError(
                f"The feature of {name} has a number that is not finite. Predict again, best with --set precision=fp32."
            )
    return np.stack(rows)


def _feature(record: Mapping[str, Any], name: str) -> np.ndarray:
    value = record.get("feature")
    try:
        whole = isinstance(value, np.ndarray) and value.dtype.kind != "f"  # of a file whose type was changed
        row = np.empty(0) if whole else np.asarray(value, dtype=np.float32)
    except (TypeError, ValueError, OverflowError):
        row = np.empty(0)
    if row.ndim != 1 or not row.size:
        raise InputError(
            f"The prediction of {name} has no list of numbers under 'feature' (found: {str(value)[:60]}). A record of "
            'this task is {"id": "image:…" or "text:…", "feature": [numbers]}.'
        )
    return row


def read_npz(path: Path) -> list[dict[str, Any]]:
    """Records of an .npz file with `image_ids`, `image_features`, `text_ids` and `text_features`.

    Raises:
        InputError: absent, damaged, other arrays or shapes, or arrays of Python objects (which could run code).
    """
    arrays = _read_arrays(path)
    records = []
    for kind in KINDS:
        ids, features = arrays[f"{kind}_ids"], arrays[f"{kind}_features"]
        if ids.ndim != 1 or features.ndim != 2 or len(ids) != len(features):
            raise InputError(
                f"{path}: {kind}_ids has the shape {ids.shape} and {kind}_features {features.shape}. They must be "
                f"[{kind}s] and [{kind}s, dim]."
            )
        named = zip(ids.tolist(), features, strict=True)
        records += [{"id": f"{kind}:{name}", "feature": row} for name, row in named]
    return records


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in ARRAYS}
    except FileNotFoundError:
        raise InputError(f"No predictions file at {path}.") from None
    except KeyError as error:
        raise InputError(f"{path} does not have all of its arrays {', '.join(ARRAYS)}: {error.args[0]}.") from None
    except Exception as error:  # whatever a damaged archive makes of itself
        raise InputError(
            f"{path} is not an .npz file of plain arrays ({reason(error)}). Write it with numpy.savez, ids as "
            "numbers or text."
        ) from error
