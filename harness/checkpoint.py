"""Checkpoints, from which an interrupted training is resumed.

There are two forms: a file, and for a sharded training a folder with a file of each process
(`harness.sharded_checkpoint`). Sharded or not, a training goes on from both.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from backbones import weights
from backbones.files import reading, replacing, require_checksums
from harness import distributed, sharded_checkpoint
from harness.progress import note
from harness.sharding import like
from harness.training_state import AGAIN, Progress, TrainingState, no_space, progress_of, require_finite
from harness.workdir import CHECKPOINT, SHARDED, remove_checkpoints

SAVE_EVERY = 600.0  # seconds, besides the end of each epoch
PARTS = {"progress", "model", "optimizer", "ema"}


def newest(folder: Path) -> Path:
    """Checkpoint in a folder to go on from; where there is none, the path of one that is not there."""
    file = folder / CHECKPOINT
    whole = {place: sharded_checkpoint.finished(place) for place in folder.glob(SHARDED)}
    found = {place: finished for place, finished in whole.items() if finished.is_file()}
    if file.is_file():
        found[file] = file
    return max(found, key=lambda place: found[place].stat().st_mtime_ns, default=file)


def read_progress(path: Path, *, run: str = "", steps: int | None = None) -> Progress:
    """Progress of the training that left the checkpoint `path`; that of a new one when there is no such file.

    Args:
        run: see `Progress`.
        steps: length of the training.

    Raises:
        InputError: the file is damaged, of another run, or of a version of this program that stored something else.
    """
    if not path.exists():
        return Progress(run=run)
    with reading(path, "checkpoint", fix=AGAIN):
        if path.is_dir():
            stored = sharded_checkpoint.read(path)["progress"]
        else:
            require_checksums(path)  # PyTorch writes them and does not look at them
            content = _read(path)
            stored = content["progress"] if isinstance(content, dict) and content.keys() == PARTS else None
        progress = progress_of(stored, path, run=run, steps=steps)
    note(f"Going on from step {progress.step} ({path})")
    return progress


def load(path: Path, state: TrainingState) -> None:
    """Restore the state in the checkpoint `path`; every process has to call.

    Raises:
        InputError: a tensor is missing, too many, of another shape or not finite.
    """
    if path.is_dir():
        return sharded_checkpoint.load(path, state)
    distributed.wait_for(path)
    with reading(path, "checkpoint", fix=AGAIN):
        content = _read(path)
        weights.require_finite(path, content["model"])
        state.model.load_state_dict(_like(content["model"], state.model.state_dict()))
        state.optimizer.load_state_dict(content["optimizer"])
        if state.ema:
            state.ema.load_state_dict(_like(content["ema"], state.ema.state_dict()))


def _like(whole: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors of a file as a model has those of the same names: divided over processes, or whole."""
    return {name: like(tensor, own[name]) if name in own else tensor for name, tensor in whole.items()}


def save(path: Path, state: TrainingState, progress: Progress) -> None:
    """Replace the checkpoint in the folder of `path`; the old one stays until the new one is on the disk.

    Of a sharded training, where every process has to call, it is a folder beside `path`, named by the step.

    Raises:
        InputError: it cannot be written, or a weight is not finite.
    """
    if state.sharded:
        path = path.with_name(SHARDED.replace("*", str(progress.step)))
        sharded_checkpoint.save(path, state, progress, before=newest(path.parent))
    else:
        _save(path, state, progress)
    if distributed.rank() == 0:
        remove_checkpoints(path.parent, but=path)


def _save(path: Path, state: TrainingState, progress: Progress) -> None:
    require_finite(_not_finite(state.model.state_dict()), progress, kept=path)
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
        raise no_space(path, error) from error


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
