"""Accuracy and consistency, as the official script computes them (lil-lab/nlvr nlvr2/eval/metrics.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from backbones.errors import InputError
from tasks.adapter import Sample
from tasks.bootstrap import Measurement, mean
from tasks.reasoning.annotations import sentence_of


def measure(predictions: Mapping[str, Mapping[str, Any]], samples: Sequence[Sample]) -> list[Measurement]:
    """`accuracy` over the statements, and `consistency`: the share of sentences that are right about all their pairs.

    The unit is the sentence.

    Args:
        predictions: records {"label": 0 or 1} by sample id.
        samples: their annotations are {"label": 0 or 1}.

    Raises:
        InputError: a record of another form; the message names the sample.
    """
    hits = np.array([label_of(predictions[s.id], s.id) == s.annotation["label"] for s in samples])
    sentences, index = np.unique([sentence_of(sample.id) for sample in samples], return_inverse=True)
    wrong = np.bincount(index, ~hits, minlength=len(sentences))
    return [mean("accuracy", hits, units=index, proportion=True), mean("consistency", wrong == 0, proportion=True)]


def label_of(record: Mapping[str, Any], sample: str) -> int:
    """The predicted label of a record, 0 or 1.

    Raises:
        InputError: it has none.
    """
    label = record.get("label")
    if label not in (0, 1):
        raise InputError(
            f"The prediction of {sample} has no label 0 or 1 (found: {label!r}). A record of this task is "
            '{"id": identifier, "label": 1}, 1 for True.'
        )
    return int(label)
