"""Measuring on a GPU, and the reasons given where it is not possible."""

from __future__ import annotations

import contextlib
import gc
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import nn

from harness.device import autocast, peak_memory
from tests.benchmarks import timing

BURST = 4  # steps per reading
SMALLEST_SHARE = 8  # of the first batch that is tried, before a measurement counts as too large

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Device and settings of all measurements of one run."""

    device: torch.device
    dtype: torch.dtype  # of products
    rounds: int  # readings
    warmup: int
    compiles: bool  # whether measurements with torch.compile run

    @property
    def tiny(self) -> bool:
        return self.device.type != "cuda"

    def autocast(self) -> AbstractContextManager:
        return autocast("fp32" if self.dtype == torch.float32 else "bf16", self.device)


@dataclass(frozen=True, kw_only=True)
class Work:
    """Something ready to be timed."""

    step: Callable[[], object]
    flops: float | None  # of one step, in the model's matrix products; None where nobody counted
    images: int  # of one step
    seconds: float | None = None  # of one step, where it was measured already


Prepare = Callable[[Machine, str, int], Work]
"""Machine, size and batch -> what is timed."""


def nothing() -> str:
    return ""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One line per size of the table.

    batches: the batch tried first, by size; a size that is not there is not measured.
    burst: steps per reading; 1 where a single one takes long enough.
    lacks: what has to be installed first, or "".
    """

    work: str
    model: str  # "ours", or a peer's name
    variant: str
    prepare: Prepare
    batches: Mapping[str, int]
    burst: int = BURST
    lacks: Callable[[], str] = nothing

    @property
    def name(self) -> str:
        return f"{self.work} {self.model} {self.variant}"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Check that ours and a peer compute the same, in fp32; a ratio of unequal things means nothing.

    difference: machine and size -> how far apart they are.
    what: is compared.
    """

    peer: str
    sizes: tuple[str, ...]
    difference: Callable[[Machine, str], float]
    tolerance: float
    lacks: Callable[[], str] = nothing
    what: str = "an fp32 output"


@dataclass(frozen=True)
class Reading:
    """Result of a measurement; `remark` says why there are no numbers."""

    remark: str = ""
    batch: int | None = None
    rate: float | None = None  # images per second
    seconds: float | None = None  # of a step
    flops: float | None = None  # per second
    memory: int | None = None  # bytes, on a GPU


@dataclass(frozen=True)
class Compared:
    """Result of a comparison."""

    equal: bool
    note: str


def training_step(machine: Machine, model: nn.Module, loss: Callable[[], torch.Tensor]) -> Callable[[], None]:
    """The loss under autocast, backward, one step of fused AdamW, zero_grad."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5, fused=True)

    def step() -> None:
        with machine.autocast():
            value = loss()
        value.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def peak_flops(machine: Machine) -> float:
    """FLOP/s of a large matrix product: what a model could reach at best."""
    side = 512 if machine.tiny else 8192
    left, right = (torch.randn(side, side, device=machine.device, dtype=machine.dtype) for _ in range(2))
    seconds = _seconds_per_step(lambda: left @ right, machine)
    return 2 * side**3 / seconds


def _seconds_per_step(step: Callable[[], object], machine: Machine, *, burst: int = BURST) -> float:
    def several() -> None:
        for _ in range(burst):
            step()

    for _ in range(machine.warmup):
        step()
    if not machine.tiny:
        torch.cuda.reset_peak_memory_stats()
    seconds = timing.interleaved({"burst": several}, rounds=machine.rounds, warmup=0)
    return statistics.median(seconds["burst"]) / burst


def read(measurement: Measurement, machine: Machine, size: str) -> Reading:
    """Measure at the largest batch that fits, that of the size or a half, a quarter … of it."""
    batch = measurement.batches[size]
    smallest = max(batch // SMALLEST_SHARE, 1)
    while batch >= smallest:
        reading = _try(measurement, machine, size, batch)
        clean_up(machine)
        if reading is not None:
            return reading
        batch //= 2
    return Reading(f"out of memory, even at batch {smallest}")


def _try(measurement: Measurement, machine: Machine, size: str, batch: int) -> Reading | None:
    """One attempt; None when the memory does not suffice."""
    try:
        work = measurement.prepare(machine, size, batch)
        seconds = work.seconds or _seconds_per_step(work.step, machine, burst=measurement.burst)
    except torch.OutOfMemoryError:
        return None
    memory = None if machine.tiny else peak_memory(machine.device)
    flops = None if work.flops is None else work.flops / seconds
    return Reading("", batch, work.images / seconds, seconds, flops, memory)


def clean_up(machine: Machine) -> None:
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()
    if not machine.tiny:
        gc.collect()
        torch.cuda.empty_cache()


class OutOfBudget(BaseException):
    """The time is over. No Exception, so that no library takes it for a failure of its own and goes on."""


@contextlib.contextmanager
def _no_longer_than(seconds: float) -> Iterator[None]:
    """Raise OutOfBudget in the body after that time."""

    def ring(*_: object) -> None:
        raise OutOfBudget

    before = signal.signal(signal.SIGALRM, ring)
    # Again every few seconds: Python drops an exception that is raised inside a destructor or a callback.
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3), 5.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Budget:
    """The time that everything may take together."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._began = time.monotonic()

    def __str__(self) -> str:
        return f"the budget of {self._seconds:g} s"

    @property
    def used(self) -> float:
        return time.monotonic() - self._began

    def run(self, body: Callable[[], T], machine: Machine) -> T | str:
        """Result of the body, or the reason why there is none: it failed, or the time is over."""
        left = self._seconds - self.used
        if left <= 0:
            return f"skipped: {self} is used up"
        try:
            with _no_longer_than(left):
                return body()
        except OutOfBudget:
            reason = f"stopped: {self} was used up"
        except Exception as error:  # whatever it is, the rest goes on
            first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
            reason = f"{type(error).__name__}: {first[:160]}"
        with contextlib.suppress(Exception):  # a GPU that is out of order refuses this too
            clean_up(machine)
        return reason


def line(measurement: Measurement, machine: Machine, size: str, budget: Budget) -> Reading:
    """A measurement's reading, with or without numbers."""
    if lacks := measurement.lacks():
        return Reading(f"skipped: {lacks}")
    if measurement.variant == "compile" and not machine.compiles:
        return Reading("skipped: without a GPU only with --compile" if machine.tiny else "skipped: --no-compile")
    found = budget.run(partial(read, measurement, machine, size), machine)
    reading = Reading(found) if isinstance(found, str) else found
    # At once: the table comes last, and not at all when somebody ends this process.
    said = f"{reading.rate:.4g} images/s" if reading.rate else reading.remark
    print(f"{budget.used:4.0f} s: {measurement.name}, {size}: {said}", file=sys.stderr, flush=True)
    return reading


def compare(comparison: Comparison, machine: Machine, size: str, budget: Budget) -> Compared:
    """Check that ours and the peer compute the same; False as well when they could not be compared."""
    found = budget.run(partial(comparison.difference, machine, size), machine)
    clean_up(machine)
    if isinstance(found, str):
        return Compared(False, f"{size}: the outputs could not be compared with {comparison.peer}'s ({found})")
    equal = found <= comparison.tolerance
    verdict = "" if equal else f", more than {comparison.tolerance}: the ratios compare unequal things"
    return Compared(
        equal, f"{size}: largest difference of {comparison.what} from {comparison.peer}'s {found:.1e}{verdict}"
    )
