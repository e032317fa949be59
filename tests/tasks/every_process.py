"""A `harness` command whose processes each leave the weights that they end with, also under torchrun.

    python -m tests.tasks.every_process FOLDER STEP run coco_detection …

Every process kills itself before the optimizer step STEP (from 0), as when a machine goes down; -1 for none.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from backbones import weights
from harness import cli, distributed, loop, pipeline
from harness.training import fine_tune

_optimizer_step = loop.optimizer_step


def leave_weights(folder: Path) -> None:
    def and_saved(model: Any, *args: Any, **options: Any) -> Path:
        trained = fine_tune(model, *args, **options)
        weights.save(model.state_dict(), folder / f"{distributed.rank()}.safetensors")
        return trained

    pipeline.fine_tune = and_saved


def kill_before(step: int) -> None:
    def killed(*args: Any, **options: Any) -> dict[str, float]:
        if options["step"] == step:
            distributed.barrier()  # the first process has saved its checkpoint
            os.kill(os.getpid(), signal.SIGKILL)
        return _optimizer_step(*args, **options)

    loop.optimizer_step = killed


if __name__ == "__main__":
    leave_weights(Path(sys.argv[1]))
    kill_before(int(sys.argv[2]))
    sys.argv[1:] = sys.argv[3:]
    cli.entry()
