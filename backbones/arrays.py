"""Pickles of NumPy arrays, such as detectron2's checkpoints, without ever running code from one."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backbones.errors import InputError

# What an array's pickle calls. NumPy 1 and 2 name the module of the first two differently.
_RECONSTRUCT = np.empty(0).__reduce__()[0]
_SCALAR = np.float32(0).__reduce__()[0]
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("collections", "OrderedDict"): OrderedDict,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _RECONSTRUCT for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _SCALAR for core in ("core", "_core")},
}


class _Refused(Exception):
    pass


class _ArraysOnly(pickle.Unpickler):
    """Knows the few names that arrays, dictionaries, texts and numbers need, and no other."""

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        if (module, name) not in _ALLOWED:
            raise _Refused(f"{module}.{name}")
        return _ALLOWED[module, name]


def read_arrays(path: Path) -> dict[str, Any]:
    """The content of a pickled dictionary, with its arrays, also in dictionaries within it, as tensors.

    Raises:
        InputError: damaged, no dictionary, or it names anything but arrays.
    """
    try:
        with path.open("rb") as file:
            content = _ArraysOnly(file, encoding="latin1").load()
    except _Refused as error:
        raise InputError(
            f"{path} holds more than arrays ({error}): loading it could run code, so it was not loaded. Save the plain "
            "state dict in the environment that made the file, best as .safetensors, and give that."
        ) from error
    except Exception as error:  # a damaged pickle fails in any way
        raise InputError(
            f"{path} is not a whole pickle of arrays ({type(error).__name__}). Download it again."
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no dictionary of arrays by name. Download it again.")
    return _with_tensors(content)


def _with_tensors(content: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _with_tensors(value) if isinstance(value, dict) else _tensor(value) for name, value in content.items()
    }


def _tensor(value: Any) -> Tensor | Any:
    numeric = isinstance(value, np.ndarray) and value.dtype.kind in "fiub"
    return torch.from_numpy(value.astype(value.dtype.newbyteorder("="))) if numeric else value
