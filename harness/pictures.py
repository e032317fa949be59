"""Pictures of predictions, for looking at them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from backbones.errors import UsageError
from harness.experiment import Experiment, limited
from harness.predictions import read
from harness.progress import note
from tasks.adapter import Sample, TaskAdapter


def require(adapter: TaskAdapter) -> None:
    """Check that a task has pictures.

    Raises:
        UsageError: it has none.
    """
    if not adapter.pictures:
        raise UsageError(f"Task {adapter.name} has no pictures of its predictions: leave --show out.")


def write(experiment: Experiment, samples: Sequence[Sample], predictions: Path, folder: Path, *, count: int) -> None:
    """A PNG file for each of `count` samples, evenly spaced, in `folder`."""
    records = {record["id"]: record for record in read(predictions)}
    folder.mkdir(parents=True, exist_ok=True)
    chosen = limited(experiment.adapter, list(samples), count)
    for sample in chosen:
        picture = experiment.adapter.picture(sample, records[sample.id], experiment.data)
        picture.save(folder / f"{sample.id.replace('/', '_')}.png")
    note(f"Pictures of {len(chosen)} predictions: {folder}")
