from __future__ import annotations

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu_scorer import BleuScorer

from tasks.captioning import bleu

CANDIDATES = ("a dog runs on the green grass", "two cats", "", "a red bus parked on a street in a city")
REFERENCES = (
    ("the dog runs on green grass", "a brown dog is running"),
    ("two cats sleep on a sofa", "cats"),
    ("nothing said",),
    ("a red bus parked on a street in a city", "bus in a city"),
)


@pytest.mark.parametrize("weights", [(1, 1, 1, 1), (0, 0, 0, 1), (3, 0, 2, 1), (0, 1, 0, 0), (0, 0, 1, 0)])
def test_weights_are_repetitions(weights: tuple[int, ...]) -> None:
    scorer = BleuScorer(n=4)
    for weight, candidate, texts in zip(weights, CANDIDATES, REFERENCES, strict=True):
        for _ in range(weight):
            scorer += (candidate, list(texts))
    expected, _ = scorer.compute_score(option="closest")
    assert bleu.score(np.array(weights) @ bleu.statistics(CANDIDATES, REFERENCES)) == expected
