"""Reading PyTorch pickles: tensors alone, without calling anything that a file names."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backbones.errors import InputError
from backbones.files import reason, require_checksums

# Keys of the state dict in order of preference: of the official code, DeepSpeed, others, averaged weights.
WRAPPERS = ("model", "module", "state_dict", "model_ema")


class _Unread:
    """Placeholder of the objects that official training checkpoints hold beside tensors."""

    def __init__(self, *args: object) -> None:
        """Whatever the file passes is dropped."""

    def __setstate__(self, state: object) -> None:
        """The same of a state."""


# `save_model` of the official code adds the command line's arguments, and the optimizer's learning rates are NumPy's.
STAND_INS = (
    "argparse.Namespace",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
    "_codecs.encode",
)


def read(path: Path) -> Any:
    """The content of a PyTorch pickle, with stand-ins for its `STAND_INS`; tensors on the CPU.

    Tensors stay on the disk until they are used, which those of an optimizer never are (in PyTorch's form since 1.6;
    older files are read whole).

    Raises:
        InputError: the file is truncated, not a checkpoint, or a pickle that would run code.
    """
    zipped = _is_zip(path)
    try:
        if zipped:
            require_checksums(path)
        with torch.serialization.safe_globals([(_Unread, name) for name in STAND_INS]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        # torch says so both of a pickle that wants to call something and of one that it cannot parse.
        if "weights_only" in str(error) and ("GLOBAL" in str(error) or "Unsupported" in str(error)):
            raise InputError(
                f"{path} holds more than tensors: loading it could run code, so it was not loaded. Save the plain "
                "state dict in the environment that made the file, best as .safetensors, and give that."
            ) from error
        raise InputError(f"{path} is not a PyTorch checkpoint. Copy or download it again.") from error
    except Exception as error:  # a damaged pickle makes the reader raise anything
        raise InputError(f"{path} is truncated or damaged ({reason(error)}). Copy or download it again.") from error


def state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    """The tensors by name in a file's content, which has them bare or under one of `WRAPPERS`.

    Raises:
        InputError: there are none.
    """
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
            break
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise InputError(f"{path} has no state dict (tensors by name, perhaps under one of {', '.join(WRAPPERS)}).")
    return content


def _is_zip(path: Path) -> bool:
    """Check that a file has the form that can be mapped into memory."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"
