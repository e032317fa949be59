"""Communication between the processes of a run; a single process is a group of one. Only `start` imports PyTorch."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn, TypeVar

from backbones.errors import InputError
from backbones.files import reason

T = TypeVar("T")

TIMEOUT = datetime.timedelta(hours=2)  # one process may decode or merge for long while the others wait
TOLD_AFTER = 5.0  # seconds that a process waits for the others before it says so
VISIBLE_WITHIN = 120.0  # seconds; network file systems remember for up to a minute that there was no file


def launched() -> bool:
    """Check that torchrun or the like started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def _group() -> ModuleType | None:
    """`torch.distributed` if this process is in a group, else None; without PyTorch it is in none."""
    dist = sys.modules.get("torch.distributed")
    return dist if dist is not None and dist.is_initialized() else None


def start() -> None:
    """Join the process group; does nothing for a single process."""
    if not launched() or _group():
        return
    import torch

    from harness.device import device

    # torchrun sets one thread per process, SLURM none: without this each process would start a thread per core.
    os.environ.setdefault("MKL_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
    if torch.cuda.is_available():
        torch.cuda.set_device(device())
    place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    who = f"Process {os.environ.get('RANK')} of {os.environ['WORLD_SIZE']}"
    waits = threading.Timer(TOLD_AFTER, lambda: print(f"{who} waits for the others at {place}.", file=sys.stderr))
    waits.daemon = True
    waits.start()
    try:
        torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"{who} cannot join the others at {place} ({reason(error)}). Start all of them with one command (torchrun "
            "--no-python --nproc-per-node N harness …), and give a --master-port that is free."
        ) from error
    finally:
        waits.cancel()


def stop() -> None:
    """Leave the process group, so that no process warns at exit."""
    if dist := _group():
        dist.destroy_process_group()


def end(status: int = 0) -> NoReturn:
    """Leave the process group and end this process, whose work is done.

    PyTorch's communication threads may outlive the group and abort Python's own shutdown: torchrun would report a
    failure.
    """
    stop()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def tell_launcher(text: str) -> None:
    """Say to torchrun why this process ends, in the form of torch.distributed.elastic's error files.

    torchrun prints, as their traceback, what the processes said, and where there is nothing an advice on tracebacks.
    """
    if path := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        told = {"message": text, "extraInfo": {"py_callstack": text, "timestamp": str(int(time.time()))}}
        with contextlib.suppress(OSError):
            Path(path).write_text(json.dumps({"message": told}))


def rank() -> int:
    dist = _group()
    return dist.get_rank() if dist else 0


def world_size() -> int:
    dist = _group()
    return dist.get_world_size() if dist else 1


def averaging(model: Any, *, now: bool) -> AbstractContextManager:
    """Context of a forward and a backward pass, with gradients averaged over processes at its end if `now`.

    Args:
        model: a task model, or PyTorch's wrapper of several processes around one.
    """
    return contextlib.nullcontext() if now or not hasattr(model, "no_sync") else model.no_sync()


def barrier() -> None:
    """Wait for every process."""
    if dist := _group():
        dist.barrier()


def decided(find: Callable[[], T]) -> T:
    """Value that the main process finds, in every process; the others do not call `find`.

    For every decision that depends on the disk: two processes may see different states of a folder, one a moment
    before the other or through an old cache of a network file system, and would then take different branches.

    Raises:
        InputError: that of the main process, in every process.
    """
    outcome: tuple[bool, object] = (True, None)
    if rank() == 0:
        try:
            outcome = (True, find())
        except InputError as error:
            outcome = (False, error)
    found, value = from_main(outcome)
    if not found:
        raise value
    return value


def wait_for(path: Path) -> None:
    """Wait until this process sees a file that the main process has written.

    Raises:
        InputError: it does not appear.
    """
    deadline = time.monotonic() + VISIBLE_WITHIN
    while rank() and not path.is_file():
        if time.monotonic() > deadline:
            raise InputError(
                f"Process {rank()} does not see {path}, which the main process has written. Give an --out that all "
                "machines share."
            )
        time.sleep(0.2)


def from_main(value: object) -> object:
    """Value of the main process, in every process."""
    dist = _group()
    if dist is None:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def from_all(value: object) -> list[object]:
    """Values of all processes, in the order of their ranks."""
    dist = _group()
    if dist is None:
        return [value]
    values: list[object] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values
