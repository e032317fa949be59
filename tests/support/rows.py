"""Rows of results. Nothing heavy is imported: processes that write rows start in a tenth of a second."""

from __future__ import annotations

import dataclasses

from leaderboards.rows import ResultRow

ROW = ResultRow(
    task="imagenet",
    dataset="ImageNet-1K, 2012",
    split="val",
    metric="top1",
    unit="percent",
    value=85.4,
    low=85.1,
    high=85.7,
    n=50_000,
    data_sha256="d" * 64,
    metric_version=1,
    predictions_sha256="p" * 64,
    package_version="0.1.0",
    package_commit="",
    libraries="torch=2.11.0",
    started="2026-01-01T00:00:00+00:00",
    run_id="first",
)


def of_run(name: str, **changes: object) -> ResultRow:
    return dataclasses.replace(ROW, run_id=name, **changes)
