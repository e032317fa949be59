"""Where losses go besides the local log files. Nothing here imports PyTorch."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from backbones.errors import InputError
from backbones.packages import install_command

# By the name that --log takes: mmengine's backend, and the package behind it as in pyproject.toml.
BACKENDS = {"tensorboard": "TensorboardVisBackend", "wandb": "WandbVisBackend"}
REQUIREMENTS = {"tensorboard": "tensorboard>=2.16", "wandb": "wandb>=0.18"}


def require(names: Sequence[str]) -> None:
    """Check that the packages of some loggers are installed.

    Raises:
        InputError: one is not; the message has the command that installs it.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise InputError(
                f"--log {name} needs the package {name}. Install it: {install_command(REQUIREMENTS[name])}"
            )
