"""Top-1, top-5 and ReaL accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from backbones.errors import InputError
from tasks.adapter import Sample
from tasks.bootstrap import Measurement, mean

BEST = 5  # class ids of a record


def measure(predictions: Mapping[str, Mapping[str, Any]], samples: Sequence[Sample]) -> list[Measurement]:
    """`top1`, `top5`, and `real_top1` over the images with ReaL labels where there are any; the unit is the image.

    Args:
        predictions: records {"top": class ids, best first} by sample id.
        samples: their annotations are {"label": class id} and, with ReaL labels, "real": class ids, all of them right.

    Raises:
        InputError: a record of another form; the message names the sample.
    """
    tops = [_top(predictions[sample.id], sample.id) for sample in samples]
    labels = [sample.annotation["label"] for sample in samples]
    found = [
        mean("top1", [top[0] == label for top, label in zip(tops, labels, strict=True)], proportion=True),
        mean("top5", [label in top[:5] for top, label in zip(tops, labels, strict=True)], proportion=True),
    ]
    real = [sample.annotation.get("real") for sample in samples]
    if any(real):
        hits = [top[0] in right for top, right in zip(tops, real, strict=True) if right]
        found.append(mean("real_top1", hits, proportion=True))
    return found


def _top(record: Mapping[str, Any], sample: str) -> Sequence[int]:
    top = record.get("top")
    whole = isinstance(top, list) and all(type(label) is int and 0 <= label < 1 << 31 for label in top)
    if not whole or not 0 < len(set(top)) == len(top) <= BEST:
        raise InputError(
            f"The prediction of {sample} has no list of class ids under 'top', best first (found: {top!r:.60}). "
            'A record of this task is {"id": image path, "top": [5 class ids]}.'
        )
    return top
