"""Checkpoint of a sharded training: a folder in which each process writes its part, by torch.distributed.checkpoint.

The files are safetensors with the place of each part in its tensor (PyTorch's own form has a pickle). `progress.json`,
written last, makes the folder a checkpoint: it has the progress and the checksum of every file. Any number of
processes can read it, sharded or not.
"""

from __future__ import annotations

import json
import shutil
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException

from backbones import weights
from backbones.files import reading
from harness import distributed
from harness.sharding import local
from harness.training_state import AGAIN, Progress, TrainingState, no_space, require_finite
from harness.workdir import write_json

MODEL, OPTIMIZER, EMA = "model.", "optimizer.", "ema."
BLOCK = 1 << 24  # bytes read at once


def finished(place: Path) -> Path:
    """The file of a checkpoint's folder that is written last."""
    return place / "progress.json"


def read(place: Path) -> dict[str, Any]:
    """Facts of a checkpoint: `progress`, `files` (checksum by name) and `loss_scale`.

    Raises:
        ValueError: they are damaged.
    """
    stored = json.loads(finished(place).read_text(encoding="utf-8"))
    facts = stored["facts"]
    if stored["checksum"] != _of_facts(facts):
        raise ValueError(f"the checksum of {finished(place).name} is wrong")
    return facts


def _of_facts(facts: Any) -> int:
    return zlib.crc32(json.dumps(facts, sort_keys=True).encode())


def save(place: Path, state: TrainingState, progress: Progress, *, before: Path) -> None:
    """Write a checkpoint into the folder `place`; every process has to call.

    Args:
        before: the newest checkpoint so far, for messages.

    Raises:
        InputError: it cannot be written, or a weight is not finite.
    """
    tensors = _tensors(state)
    require_finite(_not_finite(tensors, MODEL), progress, kept=before)
    distributed.decided(lambda: shutil.rmtree(place, ignore_errors=True))
    try:
        with _quiet():
            dcp.save(
                tensors,
                storage_writer=dcp.HuggingFaceStorageWriter(str(place), save_distributed=True),
                planner=dcp.DefaultSavePlanner(dedup_save_to_lowest_rank=True),  # of buffers, the main process's
            )
    except CheckpointException as error:
        raise no_space(place, next(iter(error.failures.values()))[0]) from error
    own = {file.name: _checksum(file) for file in place.glob(f"shard-{distributed.rank() + 1:05}-*")}
    files = {name: value for each in distributed.from_all(own) for name, value in each.items()}
    facts = {"progress": vars(progress), "files": files, "loss_scale": state.optimizer.loss_scale}
    distributed.decided(lambda: write_json(finished(place), {"facts": facts, "checksum": _of_facts(facts)}))


def load(place: Path, state: TrainingState) -> None:
    """Restore the state in the checkpoint `place`; every process has to call.

    Raises:
        InputError: a file or a tensor is missing, too many, damaged, of another shape or not finite.
    """
    distributed.wait_for(finished(place))
    with reading(place, "checkpoint", fix=AGAIN):
        facts = read(place)
        _require_files(place, facts["files"])
        reader = dcp.HuggingFaceStorageReader(str(place))
        stored = reader.read_metadata().state_dict_metadata
        state.optimizer.begin({name.removeprefix(OPTIMIZER) for name in stored if name.startswith(OPTIMIZER)})
        tensors = _tensors(state)
        if odd := sorted(tensors.keys() ^ stored.keys()):
            raise ValueError(f"{len(odd)} tensors are missing or too many, such as {odd[0]}")
        if odd := next((name for name in tensors if tensors[name].shape != stored[name].size), None):
            raise ValueError(f"{odd} has the shape {tuple(stored[odd].size)}, here {tuple(tensors[odd].shape)}")
        with _quiet():
            dcp.load(tensors, storage_reader=reader)
        if wrong := _not_finite(tensors, MODEL):
            raise ValueError(f"{wrong[0]} has a number that is not finite")
        state.optimizer.loss_scale = facts["loss_scale"]


def _tensors(state: TrainingState) -> dict[str, Tensor]:
    """The tensors of a state, by name and with at least one dimension; they share its memory."""
    parts: dict[str, Mapping[str, Tensor]] = {MODEL: state.model.state_dict(), OPTIMIZER: state.optimizer.moments()}
    if state.ema:
        parts[EMA] = state.ema.state_dict()
    return {
        prefix + name: tensor if tensor.dim() else tensor.view(1)
        for prefix, part in parts.items()
        for name, tensor in part.items()
    }


def _not_finite(tensors: Mapping[str, Tensor], prefix: str) -> list[str]:
    """Names of the tensors with a number that is not finite in any process, without their prefix."""
    own = [
        name.removeprefix(prefix)
        for name, tensor in tensors.items()
        if name.startswith(prefix) and not weights.is_finite(local(tensor))
    ]
    return sorted({name for names in distributed.from_all(own) for name in names})


def _require_files(place: Path, checksums: Mapping[str, int]) -> None:
    """Compare all files with their checksums, each process some of them.

    Raises:
        ValueError: one differs, is missing or too many.
    """
    if odd := sorted({file.name for file in place.glob("*.safetensors")} ^ checksums.keys()):
        raise ValueError(f"{odd[0]} is missing or too many")
    mine = sorted(checksums)[distributed.rank() :: distributed.world_size()]
    own = [name for name in mine if _checksum(place / name) != checksums[name]]
    if wrong := [name for names in distributed.from_all(own) for name in names]:
        raise ValueError(f"the checksum of {wrong[0]} is wrong")


def _checksum(file: Path) -> int:
    """CRC-32 of a file, as PyTorch's own checkpoints have it of their parts."""
    found = 0
    with file.open("rb") as content:
        while block := content.read(BLOCK):
            found = zlib.crc32(block, found)
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what PyTorch says about a single process."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled", category=UserWarning)
        yield
