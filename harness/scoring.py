"""From a predictions file to result rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import provenance
from harness.predictions import exactly_once, read
from leaderboards.class_rows import ClassRow
from leaderboards.rows import ResultRow
from tasks.adapter import Sample, TaskAdapter
from tasks.statistics import RESAMPLES, Measurement, seed_of


@dataclass(frozen=True)
class Scores:
    """What scoring gives: the rows of a leaderboard, and those of single classes."""

    rows: list[ResultRow]
    classes: list[ClassRow]

    def __add__(self, other: Scores) -> Scores:
        return Scores(self.rows + other.rows, self.classes + other.classes)


def score_file(path: Path, adapter: TaskAdapter, samples: Sequence[Sample], *, root: Path, split: str) -> Scores:
    """Score one predictions file: a row per metric, with 95% bootstrap intervals.

    The rows contain what the prediction stage says of itself (`origin_of`), its run's name and start included. The
    bootstrap is seeded by the data hash: neither the run nor its seed moves an interval.

    Args:
        root: the task's data folder, which the samples are of.

    Raises:
        InputError: unreadable predictions, or not each sample once.
    """
    measurements = adapter.score(read_predictions(path, adapter, samples), samples)
    run_id, started = provenance.new_run()
    data_sha256 = provenance.data_sha256(adapter, samples, root)
    common = {
        "task": adapter.name,
        "dataset": adapter.dataset,
        "split": split,
        "data_sha256": data_sha256,
        "predictions_sha256": provenance.predictions_sha256(path),
        "package_version": provenance.package_version(),
        "package_commit": provenance.package_commit(),
        "libraries": provenance.library_versions(),
        "started": started,
        "run_id": run_id,
        **origin_of(path),
    }
    scores = Scores([], [])
    for measurement in measurements:
        metric = adapter.metric(measurement.metric)
        numbers = {"metric": metric.name, "unit": metric.unit, "n": measurement.samples}
        numbers |= _numbers(measurement, seed_of(data_sha256))
        if measurement.of:
            scores.classes.append(ClassRow(split=split, of=measurement.of, **numbers))
        else:
            drawn = None if measurement.unavailable else RESAMPLES
            scores.rows.append(ResultRow(metric_version=metric.version, bootstrap_draws=drawn, **numbers, **common))
    return scores


def read_predictions(
    path: Path,
    adapter: TaskAdapter,
    samples: Sequence[Sample],
    *,
    larger: Callable[[], Sequence[Sample]] | None = None,
) -> dict[str, dict[str, Any]]:
    """One record for each sample by id, from a file of ours or a file or folder of the benchmark's own form.

    Args:
        larger: reads the samples of a split that has all of `samples`; predictions of that one serve as well.

    Raises:
        InputError: unreadable predictions, or not each sample once.
    """
    records = read(path) if path.suffix == ".jsonl" else _read_official(path, adapter, samples)
    wanted = {sample.id for sample in samples}
    beyond = any(record["id"] not in wanted for record in records)
    expected = larger() if larger is not None and beyond else samples
    exactly_once([record["id"] for record in records], [sample.id for sample in expected], where=path)
    return {record["id"]: record for record in records if record["id"] in wanted}


def _read_official(path: Path, adapter: TaskAdapter, samples: Sequence[Sample]) -> list[dict[str, Any]]:
    records = adapter.read_official(path)
    empty = adapter.empty_record(records)
    if empty is None:
        return records
    found = {record["id"] for record in records}
    return records + [{"id": sample.id, **empty} for sample in samples if sample.id not in found]


def _numbers(measurement: Measurement, seed: int) -> dict[str, Any]:
    if measurement.unavailable:
        return {"value": None, "low": None, "high": None, "note": measurement.unavailable}
    low, high = measurement.interval(seed=seed)
    return {"value": measurement.value, "low": low, "high": high}


def origin_file(predictions: Path) -> Path:
    """Where the prediction stage says who predicted."""
    return predictions.with_suffix(".json")


def origin_of(predictions: Path) -> dict[str, Any]:
    """Columns about the model behind a predictions file; none for predictions from elsewhere."""
    file = origin_file(predictions)
    # An official file may be a .json itself, or a folder beside a file of ours.
    ours = file != predictions and not predictions.is_dir() and file.exists()
    return json.loads(file.read_text()) if ours else {}
