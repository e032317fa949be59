"""State of a training, and its progress: what a checkpoint holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from mmengine.model import BaseModel, ExponentialMovingAverage
from torch.distributed.tensor import DTensor

from backbones.errors import InputError
from harness.optim import ScaledOptimizer
from harness.provenance import package_version

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

    @property
    def sharded(self) -> bool:
        """True where each process has a part of every tensor (`harness.sharding`)."""
        return any(isinstance(parameter, DTensor) for parameter in self.model.parameters())


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Progress of a training."""

    step: int = 0  # optimizer steps done
    seconds: float = 0.0  # of training, over all starts
    processes: int = 1
    run: str = ""  # random name of the run, empty outside of one
    package: str = field(default_factory=package_version)


def progress_of(stored: Any, path: Path, *, run: str, steps: int | None) -> Progress:
    """Progress in the checkpoint `path`.

    Args:
        stored: the fields of `Progress` that were found in it.
        run: name of the run that would go on.
        steps: length of the training.

    Raises:
        InputError: it is of another run, or of a version of this program that stored something else.
        ValueError: the fields have no values that a training can go on from.
    """
    known = {each.name: each.type for each in fields(Progress)}
    if not isinstance(stored, dict) or stored.keys() != known.keys() or stored["package"] != package_version():
        raise InputError(
            f"The checkpoint {path} was written by another version of this program and cannot be resumed by this "
            "one. Finish the training with the version that began it, or remove the file to start the training "
            "again."
        )
    progress = Progress(**stored)
    if any(type(getattr(progress, name)).__name__ != kind for name, kind in known.items()):
        raise ValueError("its counters are no numbers")
    if not 0 < progress.step <= (progress.step if steps is None else steps):
        raise ValueError(f"it is of step {progress.step}, and the training has {steps}")
    if progress.run != run:
        raise InputError(f"The checkpoint {path} is of another run ({progress.run}, here {run}). {AGAIN}")
    return progress


def require_finite(wrong: Sequence[str], progress: Progress, *, kept: Path) -> None:
    """Refuse to save weights that are not finite.

    Args:
        wrong: names of the model's tensors with such a number.
        kept: the checkpoint before.

    Raises:
        InputError: there are some.
    """
    if wrong:
        good = f" The last good state is kept in {kept}." if kept.exists() else ""
        raise InputError(
            f"{len(wrong)} tensors of the model have a number that is not finite after step {progress.step}, such as "
            f"{wrong[0]}. Try a lower peak (--set lr=…), gradient clipping (--set clip_grad=1.0) or --set "
            f"precision=fp32, in another --out folder.{good}"
        )


def no_space(path: Path, error: Exception) -> InputError:
    """The error of a checkpoint that cannot be written."""
    return InputError(
        f"The checkpoint {path} cannot be written ({error}). Free some space and run the same command again: it "
        "goes on from the checkpoint before."
    )
