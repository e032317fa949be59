"""Reproducing published numbers: what can run here, how long it takes, the runs, and the verdicts."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import backbones
from backbones.errors import InputError, UsageError
from harness import evaluation, stored_origin
from harness.progress import note
from leaderboards import results, verdicts
from leaderboards.comparable import Benchmarks
from leaderboards.published import PublishedRow
from leaderboards.verdicts import NOT_COMPARABLE, NOT_REPRODUCIBLE, Verdict
from tasks import registry
from tasks.common.checking import read_samples

PROBE = 8  # samples of each probe


@dataclass(frozen=True, kw_only=True)
class Job:
    """Predictions of one file on some splits of one task, for all published numbers that they are for.

    seconds, memory: forecast of a probe, in seconds and bytes; None before it.
    """

    weights: Path
    backbone: str
    task: str
    splits: tuple[str, ...]
    samples: int
    published: tuple[PublishedRow, ...]
    seconds: float | None = None
    memory: int | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Jobs that can run here, and the verdicts on what cannot."""

    jobs: tuple[Job, ...]
    refused: tuple[Verdict, ...]


def plan(
    rows: Sequence[PublishedRow],
    *,
    data: Path,
    weights: Path,
    facts: Benchmarks,
    only: Sequence[str] = (),
) -> Plan:
    """Sort published numbers into runs and reasons; reads annotations and weights, starts nothing.

    Args:
        data: data root.
        weights: folder with the weights' files under their own names.
        only: these tasks alone; all when empty.

    Raises:
        UsageError: a task of `only` that the table does not have.
    """
    if unknown := set(only) - {row.task for row in rows}:
        known = ", ".join(dict.fromkeys(row.task for row in rows))
        raise UsageError(f"The table has no number of {min(unknown)}. Its tasks: {known}.")
    size = cache(partial(_size, data))
    jobs: dict[tuple[Path, str, str], list[PublishedRow]] = {}
    refused = []
    for row in rows:
        if only and row.task not in only:
            continue
        file, backbone, reason = _resolve(row, weights, facts)
        reason = reason or size(row.task, row.split)[1]
        if reason:
            refused.append(Verdict(published=row, verdict=NOT_REPRODUCIBLE, reason=reason))
        elif reason := _confusion(file, row):
            refused.append(Verdict(published=row, verdict=NOT_COMPARABLE, reason=f"{file.name}: {reason}"))
        else:
            jobs.setdefault((file, backbone, row.task), []).append(row)
    return Plan(
        jobs=tuple(_job(*key, own, size) for key, own in jobs.items()),
        refused=tuple(refused),
    )


def _resolve(row: PublishedRow, folder: Path, facts: Benchmarks) -> tuple[Path, str, str]:
    """The weights' file, the backbone's name, and why there is none of them."""
    nothing = Path(), ""
    if not row.released:
        return *nothing, "the weights were never released"
    if not row.split:
        return *nothing, "the source names no split"
    if server := facts.servers.get((row.task, row.split)):
        return *nothing, f"needs the test server ({server}): harness submit, then harness server-score"
    file = next((path for end in (".pth", ".safetensors") if (path := folder / f"{row.weights}{end}").is_file()), None)
    if file is None:
        return *nothing, f"{row.weights}.pth is not in {folder}"
    found = re.match(r"beit3_(base|large)(?:_indomain|_itc)?_(patch\d+_\d+)", row.weights)
    backbone = f"beit3_{found[1]}_{found[2]}" if found else row.size
    if backbone not in backbones.names():
        return *nothing, f"no backbone is known for {row.weights} (size {row.size or 'unnamed'})"
    return file, backbone, ""


def _size(data: Path, task: str, split: str) -> tuple[int, str]:
    """Number of samples of a split, and why they cannot be read."""
    adapter = registry.get(task)
    try:
        return len(read_samples(adapter, adapter.data_folder(data), split)), ""
    except InputError as error:
        return 0, f"data missing: {error}"


def _confusion(file: Path, row: PublishedRow) -> str:
    from harness.weight_check import confusion  # imports PyTorch

    try:
        return confusion(file, row)
    except InputError as error:
        return str(error)


def _job(
    file: Path,
    backbone: str,
    task: str,
    own: Sequence[PublishedRow],
    size: Callable[[str, str], tuple[int, str]],
) -> Job:
    splits = tuple(dict.fromkeys(row.split for row in own))
    samples = sum(size(task, split)[0] for split in splits)
    return Job(weights=file, backbone=backbone, task=task, splits=splits, samples=samples, published=tuple(own))


def forecast(job: Job, *, data: Path) -> Job:
    """The job with its time and memory, from predictions of a few samples that are thrown away."""
    from harness import api

    adapter = registry.get(job.task)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as out:
        path = api.predict(
            job.task,
            backbone=job.backbone,
            weights=job.weights,
            data=data,
            split=job.splits[0],
            limit=min(PROBE, len(read_samples(adapter, adapter.data_folder(data), job.splits[0]))),
            out=out,
        )
        origin = stored_origin.read(path)
    loading = time.monotonic() - begun - origin["predict_seconds"]
    each = 1 / origin["samples_per_second"] if origin["samples_per_second"] else 0.0
    return replace(job, seconds=loading + each * job.samples, memory=origin["peak_memory"])


def run(job: Job, *, data: Path, out: Path, dataset: str | None) -> Iterator[Verdict]:
    """Predict and score a job, as `harness predict` and `harness score` do; goes on where it was interrupted.

    Yields:
        a verdict of "not reproducible here" for each number where the run fails; none where it works.
    """
    from harness import api

    try:
        paths = api.predict(
            job.task,
            backbone=job.backbone,
            weights=job.weights,
            data=data,
            split=list(job.splits),
            out=out,
            dataset=dataset,
        )
        evaluation.score(
            job.task, paths, data=data, split=list(job.splits), results=out / "results.csv", dataset=dataset
        )
    except InputError as error:
        note(f"{job.task} with {job.weights.name}: {error}")
        for row in job.published:
            yield Verdict(published=row, verdict=NOT_REPRODUCIBLE, reason=str(error))


def judged(rows: Sequence[PublishedRow], found: Sequence[Mapping[str, Any]], facts: Benchmarks) -> list[Verdict]:
    """Verdicts on published numbers from result rows; "not reproducible here" where their weights have none."""
    return [_judged(row, found, facts) for row in rows]


def _judged(row: PublishedRow, found: Sequence[Mapping[str, Any]], facts: Benchmarks) -> Verdict:
    same = [
        own
        for own in found
        if (own["task"], own["split"], own["metric"]) == (row.task, row.split, row.metric)
        and row.weights in (own["released"], own["weights"].rpartition(".")[0])
    ]
    if not same:
        return Verdict(published=row, verdict=NOT_REPRODUCIBLE, reason="there is no result of these weights")
    latest = {own["seed"]: own for own in sorted(same, key=lambda own: own["started"])}
    return verdicts.judge(row, list(latest.values()), facts)


def read_rows(out: Path) -> list[dict[str, Any]]:
    """The result rows of an output folder; none where it has none yet."""
    file = out / "results.csv"
    if not file.exists():
        return []
    from leaderboards.render import records

    found = results.gather([file])
    for text in found.problems:
        note(text)
    return records(found.frame)


def as_row(verdict: Verdict) -> dict[str, Any]:
    """A verdict as columns: those of the published number, and the answer."""
    published = asdict(verdict.published)
    return {
        "model": verdict.published.name,
        **{name: published[name] for name in ("weights", "task", "split", "metric", "unit")},
        "published": float(verdict.published.value),
        "ours": verdict.ours,
        "difference": verdict.difference,
        "low": verdict.low,
        "high": verdict.high,
        "tolerance": float(verdict.published.tolerance),
        "tolerance_kind": verdict.published.tolerance_kind,
        "verdict": verdict.verdict,
        "reason": verdict.reason,
        "source": f"{verdict.published.source} {verdict.published.table}".strip(),
    }
