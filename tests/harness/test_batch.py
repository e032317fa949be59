"""A batch in parts, and one that fits what --limit leaves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from backbones import UsageError
from harness import batch
from harness.experiment import Experiment, plan


def planned(colours: Path, *changes: str) -> Experiment:
    return plan("imagenet", backbone="multiway_nano", data=colours, limit=8, changes=changes)


@pytest.mark.parametrize(
    ("samples", "processes", "fit"),
    [
        (100, 1, (96, 32)),  # the micro-batch stays, and the batch is the largest multiple
        (40, 2, (40, 20)),
        (7, 1, (6, 6)),  # even, as mixup mixes pairs
        (7, 3, (6, 2)),
        (1, 1, (1, 1)),
        (255, 4, (128, 32)),
    ],
)
def test_the_largest_batch_that_fits(colours: Path, samples: int, processes: int, fit: tuple[int, int]) -> None:
    before = planned(colours, "micro_batch=32")
    before = replace(before, recipe=replace(before.recipe, batch_size=1024))
    after, notice = batch.fitted(before, samples=samples, processes=processes)
    assert (after.recipe.batch_size, after.recipe.micro_batch) == fit
    assert batch.accumulation(after.recipe, processes=processes) * fit[1] * processes == fit[0]
    assert f"Batch fitted to {samples} training samples: batch_size={fit[0]}" in notice
    assert ("micro_batch" in notice) == (fit[1] != 32)
    assert after.altered == (*before.altered, "batch_size")


def test_a_batch_that_fits_or_was_given_stays(colours: Path) -> None:
    before = planned(colours, "micro_batch=32")
    enough = before.recipe.batch_size
    assert batch.fitted(before, samples=enough, processes=1) == (before, "")
    given = planned(colours, "batch_size=64", "micro_batch=32")
    assert batch.fitted(given, samples=8, processes=1) == (given, "")
    untrained = plan("imagenet", backbone="multiway_nano", data=colours, weights=__file__, changes=["epochs=0"])
    assert batch.fitted(untrained, samples=8, processes=1) == (untrained, "")


def test_micro_batches_of_detection_count_as_an_alteration(colours: Path) -> None:
    before = plan("coco_detection", backbone="multiway_nano", data=colours)
    after, _ = batch.fitted(before, samples=1, processes=1)
    assert {"batch_size", "micro_batch"} <= set(after.altered)


def test_errors_of_a_batch_have_the_options_that_fix_them(colours: Path) -> None:
    recipe = planned(colours, "batch_size=64", "micro_batch=48").recipe
    with pytest.raises(UsageError, match="Use --set micro_batch=32") as caught:
        batch.accumulation(recipe, processes=1)
    assert caught.value.options == ("--set", "micro_batch=32")
    with pytest.raises(UsageError, match=r"more than the 24 training samples\. Use --set") as caught:
        batch.require_enough(recipe, samples=24, processes=2)
    assert caught.value.options == ("--set", "batch_size=24", "--set", "micro_batch=12")
    with pytest.raises(UsageError, match="Start fewer processes"):
        batch.require_enough(recipe, samples=3, processes=4)
    batch.require_enough(recipe, samples=64, processes=2)
