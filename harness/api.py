"""Functions behind the commands that need a model, also for Python programs (`harness.run`).

import harness
rows = harness.run("imagenet", backbone="multiway_nano", data="runs/toy")
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

from harness import calls, distributed, pipeline
from harness.experiment import Experiment, plan
from leaderboards.rows import ResultRow

RESULTS = "results.csv"


def run(
    tasks: str | Sequence[str], *, out: str | Path = "runs", log: Sequence[str] = (), show: int = 0, **options: Any
) -> list[ResultRow]:
    """Fine-tune once, then predict and score each split: one folder per task under `out`, rows in `out/results.csv`.

    A repeated call resumes an interrupted run and skips stages that are complete.

    Args:
        tasks: one task name or several.
        log: "tensorboard" and "wandb" for these besides local files.
        show: write pictures of that many predictions, for tasks that have them.
        options: see `harness.experiment.plan`.
    """
    experiments = planned(tasks, out=out, log=log, show=show, **options)
    results = Path(out) / RESULTS
    return [row for each in experiments for row in pipeline.run(each, results=results, log=log, show=show)]


def planned(
    tasks: str | Sequence[str], *, out: str | Path = "runs", log: Sequence[str] = (), show: int = 0, **options: Any
) -> list[Experiment]:
    """The experiments of a call of `run`, none of them started; every name is right then."""
    names = [tasks] if isinstance(tasks, str) else list(tasks)
    calls.require(names, log=log, show=show, **options)
    experiments = calls.for_each(names, lambda name: plan(name, out=out, **options))
    distributed.start()
    return experiments


@overload
def predict(task: str, *, split: str | None = None, **options: Any) -> Path: ...
@overload
def predict(task: str, *, split: Sequence[str], **options: Any) -> list[Path]: ...
def predict(
    task: str,
    *,
    backbone: str,
    weights: str | Path,
    split: str | Sequence[str] | None = None,
    out: str | Path = "runs",
    name: str | None = None,
    show: int = 0,
    **options: Any,
) -> Path | list[Path]:
    """Predict with fine-tuned weights, ours or official ones; returns the predictions file. It scores nothing.

    Every tensor of backbone and head must be in the file. For options see `harness.experiment.plan`.

    Args:
        split: one, or several, for which the files are returned in the same order.
        show: write pictures of that many predictions of each split, for tasks that have them.
    """
    experiment = planned_prediction(
        task, backbone=backbone, weights=weights, split=split, out=out, name=name, show=show, **options
    )
    paths, _ = pipeline.predict(experiment, show=show)
    return paths[experiment.splits[0]] if split is None or isinstance(split, str) else list(paths.values())


def planned_prediction(
    task: str, *, backbone: str, weights: str | Path, name: str | None = None, **options: Any
) -> Experiment:
    """The experiment of a call of `predict`, not started; its folder is named after backbone and weights."""
    named = name or f"{backbone.replace('/', '-')}-{Path(weights).stem}"
    (experiment,) = planned(task, backbone=backbone, weights=weights, name=named, **options)
    return experiment
