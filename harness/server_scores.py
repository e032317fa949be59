"""Scores of test servers, entered by hand."""

from __future__ import annotations

import datetime
import math
from pathlib import Path

from backbones.errors import UsageError, unknown
from harness import provenance, stored_origin
from harness.scoring import require_predictions
from leaderboards import leaks, rows
from leaderboards.rows import ResultRow
from tasks import registry


def enter(
    task: str,
    split: str,
    metric: str,
    value: float,
    *,
    predictions: str | Path,
    date: str,
    receipt: str,
    results: str | Path,
) -> ResultRow:
    """Add the score that a test server gave to `results`; entered again for the same predictions it replaces itself.

    Args:
        value: in the metric's unit.
        predictions: file or folder that the submission was made from; the row has its hash and what it says of itself.
        date: when the server scored it, ISO 8601.
        receipt: the submission's name at the server.

    Raises:
        UsageError: an unknown name, a split that is scored here, or a value that the metric cannot have.
        InputError: there are no such predictions.
    """
    adapter, path = registry.get(task), Path(predictions)
    facts = adapter.split(split)
    known = {each.name: each for each in adapter.metrics}
    if metric not in known:
        raise unknown(f"metric of {task}", metric, known)
    if facts.labels:
        raise UsageError(
            f"The truth of {task}'s split {split} is public, so no server gives its score: "
            f"harness score {task} {path} --data ROOT --split {split}."
        )
    if not math.isfinite(value) or value < 0 or (known[metric].unit == "percent" and value > 100):
        raise UsageError(f"A value of {metric} is in {known[metric].unit}, which {value:g} cannot be.")
    try:
        day = datetime.date.fromisoformat(date)
    except ValueError:
        raise UsageError(f"--date takes YYYY-MM-DD, not {date!r}.") from None
    require_predictions(path, adapter)
    digest = provenance.predictions_sha256(path)
    columns = {
        "package_version": provenance.package_version(),
        "package_commit": provenance.package_commit(),
        "libraries": provenance.library_versions(),
        "started": day.isoformat(),
        "run_id": f"server-{digest[:12]}",
        **stored_origin.read(path, sha256=digest),
    }
    seen = columns.get("trained_on", "").split()
    row = ResultRow(
        task=task,
        dataset=adapter.dataset,
        split=split,
        metric=metric,
        unit=known[metric].unit,
        value=value,
        low=None,
        high=None,
        n=facts.size or 0,
        metric_version=known[metric].version,
        data_sha256="",
        predictions_sha256=digest,
        leak=leaks.overlap(task, split, seen),
        server=facts.server,
        receipt=f"{day.isoformat()} {receipt}",
        note="entered by hand",
        **columns,
    )
    rows.write(Path(results), [row])
    return row
