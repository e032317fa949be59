"""Pictures of predictions."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from harness.experiment import Experiment, limited
from harness.predictions import read
from harness.progress import note
from harness.workdir import write_bytes
from tasks.adapter import Sample


def write(experiment: Experiment, samples: Sequence[Sample], predictions: Path, folder: Path, *, count: int) -> None:
    """Write a PNG file for each of `count` samples, evenly spaced, into `folder`, named after the sample's id.

    Raises:
        InputError: an image that cannot be opened, or a file that cannot be written.
    """
    records = {record["id"]: record for record in read(predictions)}
    chosen = limited(experiment.adapter, list(samples), count)
    for sample in chosen:
        picture = experiment.adapter.picture(
            sample, records[sample.id], experiment.data, labels=experiment.context.labels
        )
        content = io.BytesIO()
        picture.save(content, "PNG")
        write_bytes(folder / f"{sample.id.replace('/', '_')}.png", content.getvalue())
    note(f"Pictures of {len(chosen)} predictions: {folder}")
