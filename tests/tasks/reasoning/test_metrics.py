from __future__ import annotations

from pathlib import Path

import pytest

import tasks
from tests.tasks.reasoning.files import labels

ADAPTER = tasks.get("nlvr2")


def test_a_sentence_is_consistent_when_it_is_right_about_every_pair(folder: Path) -> None:
    samples = ADAPTER.samples(folder, "dev")
    scores = {
        m.metric: m.value for m in ADAPTER.score(labels(samples, {"dev-0-0-1", "dev-0-1-1", "dev-2-0-0"}), samples)
    }
    assert scores == {"accuracy": pytest.approx(100 * 9 / 12), "consistency": pytest.approx(100 * 4 / 6)}
