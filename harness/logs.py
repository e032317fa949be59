"""Scalars of a training in `scalars.jsonl`, in TensorBoard and in Weights & Biases."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from backbones.errors import InputError
from backbones.files import reading, replacing
from backbones.packages import install_command
from harness import distributed

FILE = "scalars.jsonl"
REQUIREMENTS = {"tensorboard": "tensorboard>=2.16", "wandb": "wandb>=0.18"}  # as in pyproject.toml

Write = Callable[[Mapping[str, float], int], None]  # of scalars by name, and the number of optimizer steps done


def require(names: Sequence[str]) -> None:
    """Check that the packages of some logs are installed.

    Raises:
        InputError: one is not; the message has the command that installs it.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise InputError(
                f"--log {name} needs the package {name}. Install it: {install_command(REQUIREMENTS[name])}"
            )


@contextmanager
def opened(folder: Path, names: Sequence[str], *, step: int) -> Iterator[Write]:
    """Yield a function that writes scalars into the logs in `folder`; only the main process's writes.

    Args:
        names: "tensorboard" and "wandb" for these besides the file.
        step: optimizer steps that are done. What an interrupted training wrote of later ones goes.

    Raises:
        InputError: see `require`.
    """
    require(names)
    with ExitStack() as stack:
        writers = []
        if distributed.rank() == 0:
            folder.mkdir(parents=True, exist_ok=True)
            writers = [stack.enter_context(_LOGS[name](folder, step)) for name in ("file", *names)]

        def write(values: Mapping[str, float], done: int) -> None:
            for each in writers:
                each(values, done)

        yield write


@contextmanager
def _file(folder: Path, step: int) -> Iterator[Write]:
    path = folder / FILE
    if path.is_file():
        with reading(path, "log of the training", fix="Remove it: it begins again."):
            lines = path.read_text().splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
        with replacing(path) as partial:
            partial.write_text("".join(kept))
    with path.open("a", buffering=1) as file:
        yield lambda values, done: file.write(json.dumps({"step": done, **values}) + "\n")


@contextmanager
def _tensorboard(folder: Path, step: int) -> Iterator[Write]:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder), purge_step=step + 1) as writer:

        def write(values: Mapping[str, float], done: int) -> None:
            for name, value in values.items():
                writer.add_scalar(name, value, done)

        yield write


@contextmanager
def _wandb(folder: Path, step: int) -> Iterator[Write]:
    import wandb

    with wandb.init(dir=str(folder)) as run:
        yield lambda values, done: run.log(dict(values), step=done)


_LOGS = {"file": _file, "tensorboard": _tensorboard, "wandb": _wandb}
