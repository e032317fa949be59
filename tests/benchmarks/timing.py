"""Timing functions against each other on a machine that does other things too."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence

Seconds = Mapping[str, Sequence[float]]


def interleaved(
    functions: Mapping[str, Callable[[], object]], *, rounds: int, warmup: int = 1
) -> dict[str, list[float]]:
    """Seconds of each call, by name; every round calls every function once.

    A machine that slows down or that others use for a while then hits all functions alike. Every second round
    goes backwards, so that no function always runs behind the same other one, and a steady drift cancels out.

    Args:
        warmup: untimed rounds at the start.
    """
    for _ in range(warmup):
        for function in functions.values():
            function()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(rounds):
        for name in functions if number % 2 == 0 else reversed(functions):
            seconds[name].append(once(functions[name]))
    return seconds


def once(function: Callable[[], object]) -> float:
    """Seconds of one call, from an idle GPU to an idle GPU where there is one."""
    began = now()
    function()
    return now() - began


def now() -> float:
    """The clock in seconds, read when the GPU has finished all that was asked of it."""
    torch = sys.modules.get("torch")  # whoever has not imported it has nothing on a GPU
    if torch is not None and torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def medians(seconds: Seconds) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in seconds.items()}


def speedup(seconds: Seconds, name: str, other: str) -> float:
    """Ratio of the speed of `name` to that of `other`: the median of the rounds' own ratios."""
    return statistics.median(b / a for a, b in zip(seconds[name], seconds[other], strict=True))
