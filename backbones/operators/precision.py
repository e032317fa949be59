"""The precision that operators compute in."""

from __future__ import annotations

import torch
from torch import Tensor


def widened(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in one type: float64 where one of them has it, else float32.

    torchvision has no operators for bfloat16 on a CPU, and coordinates need more than its eight bits anywhere.
    """
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return tuple(tensor.to(dtype) for tensor in tensors)
