"""Precision of training and prediction by a recipe and the kind of device. Nothing here imports PyTorch."""

from __future__ import annotations

from tasks.recipe import Recipe


def training(asked: str, kind: str, *, bf16: bool) -> str:
    """Precision of training, 'bf16', 'fp16' or 'fp32', from a recipe's `precision`.

    'auto' is bf16 where the device computes in it, else fp16 on a GPU (on V100 and T4 the only fast one) and fp32 on a
    CPU.

    Args:
        kind: cpu or cuda.
        bf16: the device multiplies bfloat16 matrices in hardware.
    """
    if asked != "auto":
        return asked
    if bf16:
        return "bf16"
    return "fp16" if kind == "cuda" else "fp32"


def prediction(recipe: Recipe, kind: str, *, bf16: bool) -> str:
    """Precision of a recipe's predictions; arguments as of `training`.

    'auto' is the closest to float32 that costs little or nothing: fp16 on a GPU, which is as fast as bf16, eight times
    finer, and used by official evaluations; fp32 on a CPU. bf16 changes a seventh of a nano model's captions, fp16 one
    in fifty (`tests/benchmarks/precision.py`). Recipes whose predictions are not checked for float16 overflow have the
    precision of training.
    """
    if recipe.precision != "auto" or not recipe.checks_overflow:
        return training(recipe.precision, kind, bf16=bf16)
    return "fp16" if kind == "cuda" else "fp32"
