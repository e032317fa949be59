"""The device that a run uses and the precision that it computes in."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import torch

from backbones.errors import InputError
from harness import precision as precisions
from tasks.recipe import Recipe


def device() -> torch.device:
    """Device of this process: its GPU when there is one, else the CPU."""
    return torch.device("cuda", _gpu()) if torch.cuda.is_available() else torch.device("cpu")


def _gpu() -> int:
    """Index of this process's GPU; 0 where a scheduler shows each process only its own."""
    index = int(os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID", "0"))
    visible = torch.cuda.device_count()
    if visible == 1:
        return 0
    if index >= visible:
        raise InputError(
            f"This is process {index} of its machine, counted from 0, and {visible} GPUs are visible. Start one for "
            f"each GPU: --nproc-per-node {visible}."
        )
    return index


def describe(where: torch.device) -> str:
    """Name of the hardware, for the result row."""
    if where.type == "cuda":
        return torch.cuda.get_device_name(where)
    return f"CPU {torch.cpu.get_capabilities().get('cpu_name', '')}".strip()


def computes_bf16(where: torch.device) -> bool:
    """Check that the device multiplies bfloat16 matrices in hardware."""
    if where.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    has = torch.cpu.get_capabilities()
    return bool(has.get("avx512_bf16") or has.get("amx_bf16") or has.get("bf16"))


def precision(asked: str, where: torch.device) -> str:
    """Precision of training on a device; see `harness.precision.training`."""
    return precisions.training(asked, where.type, bf16=computes_bf16(where))


def prediction_precision(recipe: Recipe, where: torch.device) -> str:
    """Precision of a recipe's predictions on a device; see `harness.precision.prediction`."""
    return precisions.prediction(recipe, where.type, bf16=computes_bf16(where))


HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(chosen: str, where: torch.device) -> AbstractContextManager:
    """Context of mixed precision with float32 weights and products in bfloat16 or float16; none for fp32."""
    return contextlib.nullcontext() if chosen == "fp32" else torch.autocast(where.type, HALF[chosen])


def reset_peak_memory(where: torch.device) -> None:
    """Start the measurement of `peak_memory`. Resident memory can be reset on Linux only."""
    if where.type == "cuda":
        torch.cuda.init()  # there are no statistics before
        torch.cuda.reset_peak_memory_stats(where)
    else:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # man 5 proc: resets the peak resident set size


def peak_memory(where: torch.device) -> int:
    """Peak memory of this process in bytes since the last reset: GPU memory on a GPU, else resident memory."""
    if where.type == "cuda":
        return torch.cuda.max_memory_allocated(where)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
