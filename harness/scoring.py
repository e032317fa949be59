"""Scoring of predictions files into result rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backbones.errors import InputError, UsageError
from backbones.files import reading
from harness import provenance, stored_origin
from harness.predictions import exactly_once, read
from leaderboards import leaks
from leaderboards.class_rows import ClassRow
from leaderboards.replicates import Replicates
from leaderboards.rows import UNNAMED, ResultRow
from tasks import bootstrap
from tasks.adapter import Sample, TaskAdapter


@dataclass(frozen=True)
class Scores:
    """Result rows, the bootstrap replicates behind their intervals, and rows of single classes."""

    rows: list[ResultRow] = field(default_factory=list)
    classes: list[ClassRow] = field(default_factory=list)
    replicates: list[Replicates] = field(default_factory=list)

    def __add__(self, other: Scores) -> Scores:
        return Scores(self.rows + other.rows, self.classes + other.classes, self.replicates + other.replicates)


def dataset_name(adapter: TaskAdapter, split: str, whole: Sequence[Sample], *, given: str | None) -> str:
    """Name of a row's data set: the given one, or the benchmark's if the samples are its own.

    Args:
        whole: all samples of the split.

    Raises:
        UsageError: the given name is a benchmark's, and the samples are not its own.
    """
    if adapter.official(split, whole):
        return given or adapter.dataset
    if given == adapter.dataset:
        raise UsageError(
            f"These are not {given}: its split {split} has {_official_size(adapter, split)}, and this one has "
            f"{len(whole):,}. Give --dataset the name of your data, or leave it out."
        )
    return given or UNNAMED + adapter.dataset


def _official_size(adapter: TaskAdapter, split: str) -> str:
    size = adapter.split(split).size
    return f"{size:,} samples" if size is not None else "samples with other ids"


def predicted_subset(path: Path, adapter: TaskAdapter, samples: Sequence[Sample]) -> Sequence[Sample]:
    """Samples that a file or folder has predictions of.

    Raises:
        InputError: unreadable predictions, none of these samples, or samples that cannot be scored without others.
    """
    found = adapter.subset(samples, {record["id"] for record in _records(path, adapter)})
    if not found:
        raise InputError(
            f"{path} has predictions of none of the {len(samples):,} samples. Score the split that they are of."
        )
    return found


def score_file(
    path: Path,
    adapter: TaskAdapter,
    samples: Sequence[Sample],
    *,
    root: Path,
    split: str,
    labels: Any,
    dataset: str,
    whole: int | None = None,
    trained_on: Sequence[str] = (),
) -> Scores:
    """Score one predictions file: a row per metric, with 95% intervals.

    The rows contain the columns that the prediction stage stored (`stored_origin`), its run's name and start included.
    The bootstrap is seeded by the data hash: neither the run nor its seed moves an interval.

    Args:
        root: the task's data folder, which the samples are of.
        labels: see `TaskAdapter.labels`.
        dataset: see `dataset_name`.
        whole: number of samples of the split; that of `samples` when not given.
        trained_on: what the weights have seen besides what is known of them, as TASK:SPLIT.

    Raises:
        InputError: unreadable predictions, or not each sample once.
    """
    require_predictions(path, adapter)
    predictions_sha256 = provenance.predictions_sha256(path)
    origin = stored_origin.read(path, sha256=predictions_sha256)
    records = read_predictions(path, adapter, samples)
    with records_of(path, adapter):
        measurements = adapter.score(records, samples, labels=labels)
    run_id, started = provenance.new_run()
    data_sha256 = provenance.data_sha256(adapter, samples, root)
    common = {
        "task": adapter.name,
        "dataset": dataset,
        "split": split,
        "subset": f"{len(samples)} of {whole}" if whole not in (None, len(samples)) else "",
        "data_sha256": data_sha256,
        "predictions_sha256": predictions_sha256,
        "package_version": provenance.package_version(),
        "package_commit": provenance.package_commit(),
        "libraries": provenance.library_versions(),
        "started": started,
        "run_id": run_id,
        **origin,
    }
    common |= _leak(common, [*common.get("trained_on", "").split(), *trained_on])
    scores = Scores()
    available = [one for one in measurements if not one.unavailable]
    drawn = dict(zip(available, bootstrap.replicates(available, seed=bootstrap.seed_of(data_sha256)), strict=True))
    found = dict(zip(available, bootstrap.estimates(available, list(drawn.values())), strict=True))
    for one in measurements:
        metric = adapter.metric(one.metric)
        value, low, high, draws = found.get(one, (None, None, None, None))
        numbers = {"metric": metric.name, "unit": metric.unit, "n": one.samples, "note": one.unavailable}
        numbers |= {"value": _finite(value), "low": _finite(low), "high": _finite(high)}
        if one.of:
            scores.classes.append(ClassRow(split=split, of=one.of, **numbers))
            continue
        row = ResultRow(metric_version=metric.version, bootstrap_draws=draws, **numbers, **common)
        scores.rows.append(row)
        if one in drawn:
            scores.replicates.append(_replicates(row, drawn[one]))
    return scores


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


def _leak(common: dict[str, Any], trained_on: Sequence[str]) -> dict[str, str]:
    """The columns about training data that the split may be part of."""
    seen = trained_on or leaks.declared(common.get("released", ""), common.get("weights_sha256", ""))
    seen = tuple(dict.fromkeys(seen))
    return {"trained_on": " ".join(seen), "leak": leaks.overlap(common["task"], common["split"], seen)}


def read_predictions(
    path: Path,
    adapter: TaskAdapter,
    samples: Sequence[Sample],
    *,
    larger: Callable[[], Sequence[Sample]] | None = None,
) -> dict[str, dict[str, Any]]:
    """Read one record per sample, by id, from our own format or one of the benchmark's.

    Args:
        larger: reads the samples of a split that has all of `samples`; predictions of that one serve as well.

    Raises:
        InputError: unreadable predictions, or not each sample once.
    """
    records = _records(path, adapter)
    if path.suffix != ".jsonl":
        records = _with_empty(records, adapter, samples)
    wanted = {sample.id for sample in samples}
    beyond = any(record["id"] not in wanted for record in records)
    expected = larger() if larger is not None and beyond else samples
    exactly_once([record["id"] for record in records], [sample.id for sample in expected], where=path)
    return {record["id"]: record for record in records if record["id"] in wanted}


def records_of(path: Path, adapter: TaskAdapter) -> AbstractContextManager[None]:
    """Context of work with a file's records: the task knows samples and not the file, whose path its errors get."""
    return reading(path, f"predictions of {adapter.name}", fix=_accepted(adapter))


def require_predictions(path: Path, adapter: TaskAdapter) -> None:
    """Check that there is a file or folder of predictions, before any data is read.

    Raises:
        InputError: there is none; the message has the forms that the task accepts.
    """
    if not path.exists():
        raise InputError(
            f"No predictions at {path}. Check the path, or make them with `harness predict {adapter.name}`. "
            f"{_accepted(adapter)}"
        )


def _accepted(adapter: TaskAdapter) -> str:
    return f"Forms of {adapter.name}'s predictions: {adapter.prediction_forms}."


def _records(path: Path, adapter: TaskAdapter) -> list[dict[str, Any]]:
    """Read the records of a file or folder, in any format that the task accepts."""
    require_predictions(path, adapter)
    try:
        if path.suffix == ".jsonl":
            return read(path)
        with reading(path, "predictions", fix="Write it again."):
            return adapter.read_official(path)
    except InputError as error:
        raise type(error)(f"{error} {_accepted(adapter)}") from error


def _with_empty(records: list[dict[str, Any]], adapter: TaskAdapter, samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """Add empty records for samples that an official file leaves out, where that means that nothing was found."""
    empty = adapter.empty_record(records)
    if empty is None:
        return records
    found = {record["id"] for record in records}
    return records + [{"id": sample.id, **empty} for sample in samples if sample.id not in found]


def _replicates(row: ResultRow, drawn: bootstrap.Replicates) -> Replicates:
    """Replicates with the columns of their row."""
    return Replicates(
        task=row.task,
        split=row.split,
        metric=row.metric,
        metric_version=row.metric_version,
        unit=row.unit,
        value=row.value,
        data_sha256=row.data_sha256,
        draws_sha256=drawn.draws_sha256,
        predictions_sha256=row.predictions_sha256,
        run_id=row.run_id,
        replicates=drawn.values,
    )
