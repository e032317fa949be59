"""Validation during fine-tuning: a split is predicted and scored at regular intervals.

It leaves no trace in the training, whose noise follows from counters and whose weights are only read: a training with
validation ends with the same bits as one without, unless its recipe says `keep=best`.
"""

from __future__ import annotations

import csv
import io
import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseModel

from backbones import weights
from backbones.errors import InputError
from backbones.files import reading
from harness import distributed
from harness.inference import predict
from harness.progress import note
from harness.scoring import read_predictions
from harness.workdir import write_bytes
from tasks import bootstrap
from tasks.adapter import Sample, TaskAdapter
from tasks.recipe import Recipe

ROWS = "validation.csv"
BEST = "best.safetensors"


@dataclass(frozen=True, kw_only=True)
class ValidationRow:
    """One metric after one optimizer step, a line of validation.csv."""

    step: int
    epoch: float  # of the training data
    split: str
    metric: str
    unit: str
    value: float | None  # None where it cannot be computed here
    n: int  # samples
    kept: bool  # the weights after this step are the best so far and are kept (keep=best)


class Validation:
    """The validation of one training.

    Args:
        samples, items: of the split, as they are predicted.
        labels: see `TaskAdapter.labels`.
        folder: of the run; its `validation.csv` has the rows of each step once, also after interruptions.
    """

    apart = True  # each process predicts its own samples

    def __init__(
        self,
        adapter: TaskAdapter,
        samples: Sequence[Sample],
        items: torch.utils.data.Dataset,
        recipe: Recipe,
        *,
        labels: Any,
        split: str,
        folder: Path,
    ) -> None:
        self._adapter = adapter
        self._samples = samples
        self._items = items
        self._recipe = recipe
        self._labels = labels
        self._split = split
        self._folder = folder
        self.seconds = 0.0  # spent in here

    @property
    def best(self) -> Path:
        """Path of the best weights so far, with keep=best."""
        return self._folder / BEST

    @property
    def choice(self) -> str:
        """Rule by which keep=best chooses the weights, for the rows made with them."""
        return f"best {self._adapter.primary.name} on {self._split}"

    def due(self, step: int, *, steps_per_epoch: int, last: int) -> bool:
        """Decide whether to validate after `step` optimizer steps: every `recipe.validate` epochs and at the end."""
        every = self._recipe.validate * (1 if self._recipe.steps else steps_per_epoch)
        return step % every == 0 or step == last

    def __call__(self, model: BaseModel, *, step: int, epoch: float) -> dict[str, float]:
        """Predict and score with the model as it is; returns `<split>/<metric>` values. Every process has to call.

        Raises:
            InputError: a metric to choose by that cannot be computed here, or no space.
        """
        began = time.monotonic()
        before = distributed.decided(lambda: _read(self._folder / ROWS))
        rows = [row for row in before if row.step == step]
        if not rows:
            target = self._folder / "validation" / f"{step}.jsonl"
            predict(model, self._items, self._samples, self._recipe, target=target, title=None)
            rows = distributed.decided(lambda: self._score(target, model, before, step=step, epoch=epoch))
        self.seconds += time.monotonic() - began
        return {f"{row.split}/{row.metric}": row.value for row in rows if row.value is not None}

    def _score(
        self, target: Path, model: BaseModel, before: Sequence[ValidationRow], *, step: int, epoch: float
    ) -> list[ValidationRow]:
        """Score the predictions of this step, write its rows, and save its weights if they are the best."""
        records = read_predictions(target, self._adapter, self._samples)
        measured = self._adapter.score(records, self._samples, labels=self._labels)
        whole = [one for one in measured if not one.of]
        values = {
            one.metric: (None if one.unavailable or not math.isfinite(value) else value, one.samples)
            for one, value in zip(whole, bootstrap.values(whole), strict=True)
        }
        kept = self._recipe.keep == "best" and self._keep_if_best(model, values, before, step=step)
        rows = [
            ValidationRow(
                step=step, epoch=round(epoch, 4), split=self._split, metric=name, unit=self._adapter.metric(name).unit,
                value=value, n=samples, kept=kept,
            )
            for name, (value, samples) in values.items()
        ]  # fmt: skip
        write_bytes(self._folder / ROWS, _written([*before, *rows]))
        shutil.rmtree(target.parent)
        shown = next((row for row in rows if row.metric == self._adapter.primary.name), rows[0])
        score = "no value" if shown.value is None else f"{shown.value:.2f}"
        note(f"Step {step} (epoch {epoch:.2f}): {shown.metric} on {self._split} {score}{', kept' if kept else ''}")
        return rows

    def _keep_if_best(self, model: BaseModel, values: dict, before: Sequence[ValidationRow], *, step: int) -> bool:
        """Save the weights if they are better than all before; of equally good ones the first are kept."""
        metric = self._adapter.primary
        value, _ = values.get(metric.name, (None, 0))
        if value is None:
            raise InputError(
                f"The best weights are chosen by {metric.name}, which cannot be computed here: `harness doctor` says "
                "what is missing. Or keep the last weights: leave --keep best out."
            )
        sign = 1 if metric.higher_is_better else -1
        best = max((sign * row.value for row in before if row.metric == metric.name), default=float("-inf"))
        if sign * value <= best:
            return False
        try:
            weights.save(model.state_dict(), self.best, metadata={"step": str(step)})
        except OSError as error:
            raise InputError(
                f"The best weights so far, {self.best}, cannot be written ({error}). Free some space and run the same "
                "command again."
            ) from error
        return True


def _read(path: Path) -> list[ValidationRow]:
    if not path.is_file():
        return []
    with (
        reading(path, "scores during the training", fix="Remove it: they begin again."),
        path.open(newline="", encoding="utf-8") as file,
    ):
        return [
            ValidationRow(
                step=int(row["step"]), epoch=float(row["epoch"]), split=row["split"], metric=row["metric"],
                unit=row["unit"], value=float(row["value"]) if row["value"] else None, n=int(row["n"]),
                kept=row["kept"] == "True",
            )
            for row in csv.DictReader(file)
        ]  # fmt: skip


def _written(rows: Sequence[ValidationRow]) -> bytes:
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(column.name for column in fields(ValidationRow))
    writer.writerows(astuple(row) for row in rows)
    return file.getvalue().encode()
