"""Checkpoints, from which an interrupted training is resumed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseModel, ExponentialMovingAverage

from backbones.errors import InputError
from backbones.files import replacing
from harness import distributed
from harness.optim import ScaledOptimizer
from harness.progress import note

SAVE_EVERY = 600.0  # seconds, besides the end of each epoch


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """Everything with a state in a training; all other randomness and order follow from the step's number."""

    model: BaseModel
    optimizer: ScaledOptimizer
    ema: ExponentialMovingAverage | None

    @property
    def result(self) -> BaseModel:
        """Model that the training would end with now: the averaged one where there is one."""
        return self.ema.module if self.ema else self.model


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Progress of a training."""

    step: int = 0  # optimizer steps done
    seconds: float = 0.0  # of training, over all starts
    processes: int = 1


def read_progress(path: Path) -> Progress:
    """Progress of the training that left the checkpoint `path`; that of a new one when there is no such file.

    Raises:
        InputError: the file is damaged, or of a version of this program that stored something else.
    """
    if not path.is_file():
        return Progress()
    try:
        content = _read(path)
    except Exception as error:  # any damage to the file
        raise InputError(
            f"The checkpoint {path} is damaged ({type(error).__name__}). Remove it to start the training again."
        ) from error
    if not isinstance(content, dict) or "progress" not in content:
        raise InputError(
            f"The checkpoint {path} was written by another version of this program and cannot be resumed by this one. "
            "Finish the training with the version that began it, or remove the file to start the training again."
        )
    progress = Progress(**content["progress"])
    note(f"Going on from step {progress.step} ({path})")
    return progress


def load(path: Path, state: TrainingState) -> None:
    """Restore the state in the checkpoint `path`; every process has to call."""
    distributed.wait_for(path)
    content = _read(path)
    state.model.load_state_dict(content["model"])
    state.optimizer.load_state_dict(content["optimizer"])
    if state.ema:
        state.ema.load_state_dict(content["ema"])


def save(path: Path, state: TrainingState, progress: Progress) -> None:
    """Replace the checkpoint `path`; the old one stays until the new one is on the disk.

    Raises:
        InputError: it cannot be written.
    """
    content = {
        "progress": vars(progress),
        "model": state.model.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "ema": state.ema.state_dict() if state.ema else None,
    }
    try:
        with replacing(path) as partial:
            torch.save(content, partial)
    except (OSError, RuntimeError) as error:  # PyTorch's writer raises RuntimeError on a full disk
        raise InputError(
            f"The checkpoint {path} cannot be written ({error}). Free some space and run the same command again: it "
            "goes on from the checkpoint before."
        ) from error


def due(step: int, *, every: int, saved: float) -> bool:
    """Decide whether to save after `step` optimizer steps, `every` an epoch; `saved` is the time of the last save."""
    return step % every == 0 or time.monotonic() - saved > SAVE_EVERY


def _read(path: Path) -> dict[str, Any]:
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
