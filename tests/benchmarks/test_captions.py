"""The benchmark of caption scores compares what it says; no figure here depends on the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks import captions
from tests.support.captions import cases

FIGURES = dict.fromkeys(captions.METRICS, 50.0)


def test_images_that_come_again_have_other_words(truth: Path) -> None:
    real = max(len(case.images) for case in cases(truth).values())
    candidates, references = captions.texts(2 * real)
    assert len(candidates) == len(references) == 2 * real
    assert {len(texts) for texts in references} == {5}
    same = sum(first == second for first, second in zip(candidates[:real], candidates[real:], strict=True))
    assert same < real / 4
    assert captions.texts(2 * real) == (candidates, references)


def test_different_figures_are_no_comparison(truth: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captions, "ours", lambda *texts: FIGURES)
    monkeypatch.setattr(captions, "theirs", lambda *texts: {**FIGURES, "METEOR": 50.001})
    with pytest.raises(SystemExit, match=r"differ by 1\.0e-03 points"):
        captions.compare(images=10, rounds=1)
