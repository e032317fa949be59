"""One job of a grid from its specification: `run_cell`, for the queue of this package and for any other."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from backbones.errors import InputError
from harness import distributed
from harness.grids import identity as identities
from harness.grids import jobs, settings, store
from harness.grids.fine_tuning import RUN
from harness.grids.jobs import Job
from harness.messages import distributed_elsewhere, error_text
from harness.workdir import RUN as RUN_FILE
from harness.workdir import BusyError
from leaderboards.csv_file import ResultsError
from leaderboards.rows import ResultRow


def run_cell(specification: Mapping[str, Any]) -> list[ResultRow]:
    """Carry out one specification of a grid; returns the rows of a cell, none of a stage of pretraining.

    For Ray, Dask, Kubernetes and the like, which bring their own queue. `harness.grids.plan` makes specifications;
    they are JSON-able, and those of a wave need nothing but the waves before them:

        plan = grids.plan("ablation_a_transformer", data="/data", out="/shared/ablations")
        for wave in plan.waves():
            ray.get([ray.remote(num_gpus=1)(grids.run_cell).remote(each) for each in wave])

    The output folder has to be shared by all machines, the package has to be the same on each, and a process computes
    on its first visible GPU. A job that is done returns its rows at once, and one that was killed goes on from its
    newest checkpoint, so every call may be repeated. `harness ablate` with the same options shows the table, and runs
    what is missing.

    Raises:
        InputError: no specification; other code or another device than it was made for; a stage that it needs is not
            done; or what `harness.run` raises. The folder keeps the reason (`failed.json`), and the table shows it.
    """
    job = jobs.of(specification)
    found = distributed.decided(lambda: store.look(job))
    if found.state == "foreign":
        raise InputError(found.reason)
    if found.state == "done":
        return list(found.rows)
    try:
        distributed.decided(lambda: store.begin(job))
        _require_fitting(job)
        begun = time.monotonic()
        rows = _pretrain(job) if job.kind == "stage" else _fine_tune(job)
        distributed.decided(lambda: store.finish(job, seconds=time.monotonic() - begun))
    except BusyError:
        raise
    except Exception as error:
        if not distributed_elsewhere(error):  # the process whose error it was says more
            store.fail(job, reason_of(error))
        raise
    return rows


def reason_of(error: Exception) -> str:
    """The paragraph about an error, for the table and for `failed.json`."""
    return str(error) if isinstance(error, (InputError, ResultsError)) else error_text(error, Namespace(words=[]))


def _require_fitting(job: Job) -> None:
    """Check that code and device are those of the identity."""
    code = job.identity[identities.CODE]
    if code != identities.code() and not job.code_change:
        changed = ", ".join(name for name, value in code.items() if identities.code().get(name) != value)
        raise InputError(
            f"The specification of {job.label} was made by other code than runs it ({changed}). Use one version on all "
            "machines, or let results of other code count: accept_code_change of harness.grids.plan, "
            "--accept-code-change of harness ablate."
        )
    from harness.device import describe, device

    where = device()
    name = f"{where.type} {describe(where)}" if where.type == "cuda" else where.type
    if name != job.identity["device"]:
        raise InputError(
            f"The specification of {job.label} is for {job.identity['device']}, and this process computes on {name}. "
            "Run it there, or plan the grid for this device (device=harness.hardware.found() on this machine)."
        )


def _pretrain(job: Job) -> list[ResultRow]:
    from harness import pretraining, pretraining_plan

    stage = pretraining_plan.plan(**job.options, out=job.folder)
    _require_same(job, "recipe", job.identity["recipe"], identities.plain(settings.of_recipe(stage.recipe)))
    pretraining.run(stage)
    known = store.read(stage.folder / RUN_FILE) or {}
    _require_same(job, "data", job.identity["data"], known.get("identity", {}).get("data"))
    return []


def _fine_tune(job: Job) -> list[ResultRow]:
    from harness import experiment, pipeline

    planned = experiment.plan(**job.options, out=job.folder, name=RUN)
    recipe = identities.plain(settings.of_recipe(planned.recipe))
    _require_same(job, "recipe", job.identity["recipe"], recipe)
    rows = pipeline.run(planned, results=job.path / store.ROWS, columns=store.labels(job))
    known = {planned.adapter.train_split: rows[0].train_data_sha256, rows[0].split: rows[0].data_sha256}
    data = job.identity["data"]
    _require_same(job, "data", data, {split: known.get(split, sha256) for split, sha256 in data.items()})
    return rows


def _require_same(job: Job, part: str, planned: Any, found: Any) -> None:
    if planned != found:
        raise InputError(
            f"The {part} of {job.label} is another one than the grid was planned with ({planned} then, {found} now). "
            "Plan again with the same code, and --verify-data where files were replaced under their old names, sizes "
            "and times."
        )
