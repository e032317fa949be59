"""What the engine adds to mmengine's training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner

from backbones.errors import InputError
from harness import distributed

CHECKPOINT_EVERY = 600.0  # seconds, besides the end of each epoch


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
        except (OSError, RuntimeError) as error:
            partial.unlink(missing_ok=True)
            raise InputError(
                f"The checkpoint {self._path} cannot be written ({error}). Free some space and run the same command "
                "again: it goes on from the checkpoint before."
            ) from error
        partial.replace(self._path)
        self._last = time.monotonic()


class ShowProgress(Hook):
    """Moves the progress bar."""

    priority = "LOWEST"

    def __init__(self, shown: Any) -> None:
        self._shown = shown

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        self._shown.advance(1, f"loss {float(outputs['loss']):.4f}")
