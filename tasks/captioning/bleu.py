"""BLEU-1 to BLEU-4 from sums of n-gram counts, as pycocoevalcap computes it (closest reference length)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

ORDERS = 4
# pycocoevalcap's guards against 0: added to numerators and to denominators.
TINY_COUNT, SMALL_COUNT = 1e-15, 1e-9


def statistics(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """Counts of tokenized captions, float64 [images, 10].

    Columns: words of the candidate, of the reference closest in length, n-grams of the candidate (n = 1 to 4), those
    of them that a reference has too.
    """
    from pycocoevalcap.bleu.bleu_scorer import cook_refs, cook_test

    rows = []
    for candidate, texts in zip(candidates, references, strict=True):
        counts = cook_test(candidate, cook_refs(texts), "closest")
        rows.append([counts["testlen"], counts["reflen"], *counts["guess"], *counts["correct"]])
    return np.array(rows, dtype=float)


def score(sums: np.ndarray) -> list[float]:
    """BLEU-1 to BLEU-4 in [0, 1] from (sums of) statistics [10].

    Papineni et al., ACL 2002: geometric mean of n-gram precisions times brevity penalty.
    """
    words, closest, *counts = (float(number) for number in sums)
    ratio = (words + TINY_COUNT) / (closest + SMALL_COUNT)
    brevity = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    product, scores = 1.0, []
    for order, (guessed, correct) in enumerate(zip(counts[:ORDERS], counts[ORDERS:], strict=True), 1):
        product *= (correct + TINY_COUNT) / (guessed + SMALL_COUNT)
        scores.append(product ** (1 / order) * brevity)
    return scores
