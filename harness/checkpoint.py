"""Checkpoints, from which an interrupted training is resumed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseModel, ExponentialMovingAverage

from backbones import weights
from backbones.errors import InputError
from backbones.files import reading, replacing, require_checksums
from harness import distributed
from harness.optim import ScaledOptimizer
from harness.progress import note
from harness.provenance import package_version

SAVE_EVERY = 600.0  # seconds, besides the end of each epoch
PARTS = {"progress", "model", "optimizer", "ema"}
AGAIN = "Remove it to start the training again."


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
    run: str = ""  # random name of the run, empty outside of one
    package: str = field(default_factory=package_version)


def read_progress(path: Path, *, run: str = "", steps: int | None = None) -> Progress:
    """Progress of the training that left the checkpoint `path`; that of a new one when there is no such file.

    Args:
        run: see `Progress`.
        steps: length of the training.

    Raises:
        InputError: the file is damaged, of another run, or of a version of this program that stored something else.
    """
    if not path.is_file():
        return Progress(run=run)
    with reading(path, "checkpoint", fix=AGAIN):
        require_checksums(path)  # PyTorch writes them and does not look at them
        content = _read(path)
        found = content["progress"] if isinstance(content, dict) and content.keys() == PARTS else None
        known = {each.name: each.type for each in fields(Progress)}
        if not isinstance(found, dict) or found.keys() != known.keys() or found["package"] != package_version():
            raise InputError(
                f"The checkpoint {path} was written by another version of this program and cannot be resumed by this "
                "one. Finish the training with the version that began it, or remove the file to start the training "
                "again."
            )
        progress = Progress(**found)
        if any(type(getattr(progress, name)).__name__ != kind for name, kind in known.items()):
            raise ValueError("its counters are no numbers")
        if not 0 < progress.step <= (progress.step if steps is None else steps):
            raise ValueError(f"it is of step {progress.step}, and the training has {steps}")
        if progress.run != run:
            raise InputError(f"The checkpoint {path} is of another run ({progress.run}, here {run}). {AGAIN}")
    note(f"Going on from step {progress.step} ({path})")
    return progress


def load(path: Path, state: TrainingState) -> None:
    """Restore the state in the checkpoint `path`; every process has to call.

    Raises:
        InputError: a tensor is missing, too many, of another shape or not finite.
    """
    distributed.wait_for(path)
    with reading(path, "checkpoint", fix=AGAIN):
        content = _read(path)
        weights.require_finite(path, content["model"])
        state.model.load_state_dict(content["model"])
        state.optimizer.load_state_dict(content["optimizer"])
        if state.ema:
            state.ema.load_state_dict(content["ema"])


def save(path: Path, state: TrainingState, progress: Progress) -> None:
    """Replace the checkpoint `path`; the old one stays until the new one is on the disk.

    Raises:
        InputError: it cannot be written, or a weight is not finite.
    """
    if wrong := _not_finite(state.model.state_dict()):
        good = f" The last good state is kept in {path}." if path.is_file() else ""
        raise InputError(
            f"{len(wrong)} tensors of the model have a number that is not finite after step {progress.step}, such as "
            f"{wrong[0]}. Try a lower peak (--set lr=…), gradient clipping (--set clip_grad=1.0) or --set "
            f"precision=fp32, in another --out folder.{good}"
        )
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


def _not_finite(tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """Names of the tensors with a number that is not finite; one pass over all of them tells that there is none."""
    norms = torch._foreach_norm([tensor for tensor in tensors.values() if tensor.is_floating_point()])
    if torch.stack(norms).isfinite().all():
        return []
    return [name for name, tensor in tensors.items() if not weights.is_finite(tensor)]


def due(step: int, *, every: int, saved: float) -> bool:
    """Decide whether to save after `step` optimizer steps, `every` an epoch; `saved` is the time of the last save."""
    return step % every == 0 or time.monotonic() - saved > SAVE_EVERY


def _read(path: Path) -> dict[str, Any]:
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
