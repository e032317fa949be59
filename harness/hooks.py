"""What the engine adds to mmengine's training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner

from backbones.errors import InputError
from backbones.files import move_into_place
from harness import distributed
from harness.progress import note
from harness.validation import Validation

CHECKPOINT_EVERY = 600.0  # seconds, besides the end of each epoch
NOTABLE_WAIT = 0.1  # share of the time that a training waits for data


class Schedule(Hook):
    """Sets the learning rate of each step from an array; nothing to save, nothing to resume."""

    priority = "HIGHEST"

    def __init__(self, rates: np.ndarray) -> None:
        self._rates = rates

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        rate = float(self._rates[batch_idx])  # a NumPy number would be pickled into the checkpoint
        # The first group is mmengine's own, without parameters: it is the rate that logs show.
        for group in runner.optim_wrapper.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)


class FiniteLoss(Hook):
    """Stops a run whose loss is not a number before it is saved."""

    priority = "HIGHEST"

    def __init__(self, rates: np.ndarray, checkpoint: Path) -> None:
        self._rates = rates
        self._checkpoint = checkpoint

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        loss = float(outputs["loss"])
        if not math.isfinite(loss):
            kept = f"The last good state is kept in {self._checkpoint}." if self._checkpoint.is_file() else ""
            raise InputError(
                f"The loss is {loss} at step {batch_idx + 1} (learning rate {self._rates[batch_idx]:.3g}). Try a "
                "lower peak (--set lr=…), a longer warm-up (--set warmup_epochs=…), gradient clipping "
                f"(--set clip_grad=1.0) or --set precision=fp32, in another --out folder. {kept}".rstrip()
            )


class Checkpoint(Hook):
    """Keeps one checkpoint to go on from, replaced in one move at each epoch's end and every ten minutes.

    mmengine's own hook deletes the old checkpoint before it writes the new one.
    """

    priority = "VERY_LOW"

    def __init__(self, path: Path, *, steps_per_epoch: int, seconds: Callable[[], float]) -> None:
        self._path = path
        self._steps_per_epoch = steps_per_epoch
        self._seconds = seconds
        self._last = time.monotonic()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        step = batch_idx + 1
        due = step % self._steps_per_epoch == 0 or time.monotonic() - self._last > CHECKPOINT_EVERY
        if distributed.rank() == 0 and due:
            self._save(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        # Smoothed logs are nothing that a result depends on, and they are pickled objects: without them the
        # file holds tensors and plain values only and loads with weights_only.
        checkpoint["message_hub"] = {"log_scalars": {}, "runtime_info": {}, "resumed_keys": {}}
        checkpoint["meta"]["train_seconds"] = self._seconds()
        checkpoint["meta"]["processes"] = distributed.world_size()

    def _save(self, runner: Runner) -> None:
        partial = self._path.with_suffix(".partial")
        try:
            runner.save_checkpoint(str(partial.parent), partial.name, save_param_scheduler=False, by_epoch=False)
            move_into_place(partial, self._path)
        except (OSError, RuntimeError) as error:
            partial.unlink(missing_ok=True)
            raise InputError(
                f"The checkpoint {self._path} cannot be written ({error}). Free some space and run the same command "
                "again: it goes on from the checkpoint before."
            ) from error
        self._last = time.monotonic()


class Validate(Hook):
    """Has the validation split scored when it is due, before the checkpoint of the same step is saved.

    Args:
        validation: called with the model to score, the averaged one where there is one.
        last: the number of optimizer steps.
    """

    priority = "LOW"

    def __init__(self, validation: Validation, ema: EMAHook | None, *, steps_per_epoch: int, last: int) -> None:
        self._validation = validation
        self._ema = ema
        self._steps_per_epoch = steps_per_epoch
        self._last = last

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        step = batch_idx + 1
        if not self._validation.due(step, steps_per_epoch=self._steps_per_epoch, last=self._last):
            return
        model = self._ema.ema_model if self._ema else runner.model
        rows = self._validation(getattr(model, "module", model), step=step, epoch=step / self._steps_per_epoch)
        values = {f"{row.split}/{row.metric}": row.value for row in rows if row.value is not None}
        runner.visualizer.add_scalars(values, step=step)


class ShowProgress(Hook):
    """Moves the progress bar, and tells what share of the time went into waiting for data."""

    priority = "LOWEST"

    def __init__(self, shown: Any) -> None:
        self._shown = shown

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        waiting = runner.train_loop.waiting
        runner.message_hub.update_scalar("train/data_wait", waiting)
        told = f", waiting for data {waiting:.0%}" if waiting >= NOTABLE_WAIT else ""
        self._shown.advance(1, f"loss {float(outputs['loss']):.4f}{told}")

    def after_train(self, runner: Runner) -> None:
        waiting = runner.train_loop.waiting
        if waiting >= NOTABLE_WAIT:
            note(
                f"The training waited for data {waiting:.0%} of its time: more loader processes (--set workers=…) or a "
                "faster disk would shorten it"
            )
