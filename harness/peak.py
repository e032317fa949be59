"""Share of a device's peak that a training reaches: model FLOPs utilisation (PaLM, arXiv 2204.02311, Appendix B)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tasks.common.step_loss import StepLoss

UNKNOWN = "unknown device"
BACKWARD = 2  # a backward pass costs twice the forward one

# Dense products in bfloat16 (float16 where a device has no bfloat16), in FLOP/s, without sparsity: the makers' data
# sheets. Keys are parts of the names that PyTorch reports, the more special ones first.
PEAKS: dict[str, float] = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10G": 70e12,
    "A10": 125e12,
    "V100": 125e12,
    "T4": 65e12,
}


def peak(device_name: str) -> float | None:
    """FLOP/s of a device by its name; None where the table does not have it."""
    words = f" {device_name.replace('-', ' ')} "
    return next((value for name, value in PEAKS.items() if f" {name} " in words), None)


def step_flops(model: nn.Module, batch: Any) -> float:
    """FLOPs of the products of a training step on `batch`; recomputed activations count once.

    Args:
        batch: as the loader gives it; goes through the model once, without gradients.
    """
    was_training = model.training
    model.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counted:
        mode = "outputs" if isinstance(model, StepLoss) else "loss"
        model(**model.data_preprocessor(batch, training=False), mode=mode)
    model.train(was_training)
    return counted.get_total_flops() * (1 + BACKWARD)


def share(flops: float, seconds: float, device_name: str, *, devices: int) -> float | str:
    """Part of the peak of `devices` devices that `flops` in `seconds` are, or "unknown device"."""
    most = peak(device_name)
    return UNKNOWN if most is None else flops / seconds / (most * devices)
