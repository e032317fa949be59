"""All measurements that need a GPU, in one call of under eight minutes.

Forward and training step on images alone in bf16, base and large, 224 px: images per second, model FLOPs
utilisation, peak memory, and the ratio to torchscale's eager model doing the same in the same run.

- Forward: the model cast to bf16, inference mode, no autocast.
- Training step: float32 weights, forward under bf16 autocast, cross-entropy of a linear head on the mean token,
  backward, one step of fused AdamW, zero_grad. No stochastic depth. What an image never passes is frozen in both
  implementations, as our task models do.
- Batch: the largest of the measurement's own, its half, quarter … that fits into memory.
- Seconds: the median of several readings of a burst of steps, with the GPU idle before and after each.
- Utilisation: `forward_flops` × steps per second, relative to the rate of a large matrix product measured in the
  same run. A training step counts as three forwards, also when activation checkpointing computes a fourth.

A measurement that fails (memory, compiler) is a line with the reason. When `--budget` seconds are over, the
measurement that runs is stopped and the rest are skipped, and their lines say so. Without a GPU everything runs at
a tiny size, only so that it cannot rot.

To add a measurement: a function (machine, configuration, batch) -> Work, and an entry in MEASUREMENTS.

    python -m tests.benchmarks.gpu --json figures.json

Last figures:
    (none yet)
"""

from __future__ import annotations

import contextlib
import gc
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import backbones
from backbones import MultiwayConfig
from backbones.multiway import Multiway
from harness.device import device, peak_memory, precision
from tests.benchmarks import peers, timing
from tests.benchmarks.peers import Peer
from tests.benchmarks.report import Report, arguments, surroundings

CLASSES = 1000
BURST = 4  # steps per reading
SMALLEST_SHARE = 8  # of the first batch that is tried, before a measurement counts as too large
GIB = 2**30

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where and how everything of one run is measured."""

    device: torch.device
    dtype: torch.dtype  # of products
    rounds: int  # readings
    warmup: int
    compiles: bool  # whether measurements with torch.compile run

    @property
    def tiny(self) -> bool:
        return self.device.type != "cuda"


@dataclass(frozen=True, kw_only=True)
class Work:
    """Something ready to be timed."""

    step: Callable[[], object]
    flops: float  # of one step, in the model's matrix products
    images: int  # of one step


Prepare = Callable[[Machine, MultiwayConfig, int], Work]


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One line per size of the table.

    batches: the batch tried first, by size; a size that is not there is not measured.
    """

    work: str
    model: Literal["ours", "torchscale"]
    variant: str
    prepare: Prepare
    batches: Mapping[str, int]

    @property
    def name(self) -> str:
        return f"{self.work} {self.model} {self.variant}"


@dataclass(frozen=True)
class Reading:
    """What was measured; `remark` says why there are no numbers."""

    remark: str = ""
    batch: int | None = None
    rate: float | None = None  # images per second
    flops: float | None = None  # per second
    memory: int | None = None  # bytes, on a GPU


@dataclass(frozen=True)
class Compared:
    """Whether two implementations' outputs are the same."""

    equal: bool
    note: str


# What is computed


def forward_flops(config: MultiwayConfig) -> float:
    """Floating-point operations of the matrix products of one image's forward; a multiply-add is two.

    Per token and layer: 2 · (4 D² + 2 D F) for the four projections and the feed-forward's two, and 4 N D for the
    attention's two products with N tokens (scores and mixing). The patch embedding is one product of
    patches × 3 P² × D. Norms, GELU, softmax and residuals are left out: they are no work for matrix units.
    """
    patches = config.grid**2
    tokens = patches + Multiway.prefix_tokens
    linear = 2 * (4 * config.dim**2 + 2 * config.dim * config.ffn_dim)
    attention = 4 * tokens * config.dim
    embedding = 2 * patches * 3 * config.patch_size**2 * config.dim
    return config.layers * tokens * (linear + attention) + embedding


def training_flops(config: MultiwayConfig) -> float:
    """Of one image's training step: the backward pass has two products for each one of the forward."""
    return 3 * forward_flops(config)


def forward(
    machine: Machine, config: MultiwayConfig, batch: int, *, make: Callable[[MultiwayConfig], Peer], compiled: bool
) -> Work:
    """The tokens of a batch, the model in the machine's precision."""
    peer = _made(make, config, machine)
    model = peer.model.to(machine.dtype).eval()
    if compiled:
        model = torch.compile(model)
    image = peers.random_images(config, batch, device=machine.device).to(machine.dtype)

    @torch.inference_mode()
    def step() -> Tensor:
        return peer.encode(model, image)

    return Work(step=step, flops=batch * forward_flops(config), images=batch)


class Trainee(nn.Module):
    """A model with a linear head on its mean token; returns the loss."""

    def __init__(self, peer: Peer, config: MultiwayConfig) -> None:
        super().__init__()
        self.model = peer.model
        self.head = nn.Linear(config.dim, CLASSES)
        self._encode = peer.encode

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        logits = self.head(self._encode(self.model, image).mean(1))
        return F.cross_entropy(logits.float(), label)


def training(
    machine: Machine, config: MultiwayConfig, batch: int, *, make: Callable[[MultiwayConfig], Peer], compiled: bool
) -> Work:
    """One optimizer step under autocast."""
    peer = _made(make, config, machine)
    _freeze_unused_by_images(peer.model, config)
    model = Trainee(peer, config).to(machine.device).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5, fused=True)
    run = torch.compile(model) if compiled else model
    image = peers.random_images(config, batch, device=machine.device)
    label = torch.arange(batch, device=machine.device) % CLASSES
    autocast = partial(torch.autocast, machine.device.type, machine.dtype, enabled=machine.dtype != torch.float32)

    def step() -> None:
        with autocast():
            loss = run(image, label)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return Work(step=step, flops=batch * training_flops(config), images=batch)


def _made(make: Callable[[MultiwayConfig], Peer], config: MultiwayConfig, machine: Machine) -> Peer:
    torch.manual_seed(0)
    with machine.device:  # initialising a large model on the CPU takes longer than measuring it
        peer = make(config)
    peer.model.to(machine.device)
    return peer


def _freeze_unused_by_images(model: nn.Module, config: MultiwayConfig) -> None:
    """`Multiway.freeze_unused_by_images`, for every model with the same parameter names."""
    with torch.device("meta"):
        reference = Multiway(config)
    reference.freeze_unused_by_images()
    trained = {name for name, parameter in reference.named_parameters() if parameter.requires_grad}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained)


def ours_checkpointed(config: MultiwayConfig) -> Peer:
    return peers.ours(replace(config, checkpoint_activations=True))


FORWARD = {"base": 256, "large": 128, "nano": 2}
TRAINING = {"base": 128, "large": 64, "nano": 2}


def _forward(model: str, variant: str, make: Callable[[MultiwayConfig], Peer]) -> Measurement:
    prepare = partial(forward, make=make, compiled=variant == "compile")
    return Measurement(work="forward", model=model, variant=variant, prepare=prepare, batches=FORWARD)


def _training(model: str, variant: str, make: Callable[[MultiwayConfig], Peer]) -> Measurement:
    prepare = partial(training, make=make, compiled=variant == "compile")
    return Measurement(work="training", model=model, variant=variant, prepare=prepare, batches=TRAINING)


# In the order in which they run: what the budget may cut off comes last.
MEASUREMENTS: Sequence[Measurement] = (
    _forward("ours", "eager", peers.ours),
    _forward("torchscale", "eager", peers.torchscale),
    _training("ours", "eager", peers.ours),
    _training("torchscale", "eager", peers.torchscale),
    _training("ours", "checkpointing", ours_checkpointed),
    _forward("ours", "compile", peers.ours),
    _training("ours", "compile", peers.ours),
    _forward("torchscale", "compile", peers.torchscale),
    _training("torchscale", "compile", peers.torchscale),
)


# How it is measured


def peak_flops(machine: Machine) -> float:
    """FLOP/s of a large matrix product: what a model could reach at best."""
    side = 512 if machine.tiny else 8192
    left, right = (torch.randn(side, side, device=machine.device, dtype=machine.dtype) for _ in range(2))
    seconds = _seconds_per_step(lambda: left @ right, machine)
    return 2 * side**3 / seconds


def _seconds_per_step(step: Callable[[], object], machine: Machine) -> float:
    def burst() -> None:
        for _ in range(BURST):
            step()

    for _ in range(machine.warmup):
        step()
    if not machine.tiny:
        torch.cuda.reset_peak_memory_stats()
    seconds = timing.interleaved({"burst": burst}, rounds=machine.rounds, warmup=0)
    return statistics.median(seconds["burst"]) / BURST


def read(measurement: Measurement, machine: Machine, config: MultiwayConfig, *, batch: int) -> Reading:
    """Measure at the largest batch that fits, `batch` or a half, a quarter … of it."""
    smallest = max(batch // SMALLEST_SHARE, 1)
    while batch >= smallest:
        reading = _try(measurement, machine, config, batch)
        _clean_up(machine)
        if reading is not None:
            return reading
        batch //= 2
    return Reading(f"out of memory, even at batch {smallest}")


def _try(measurement: Measurement, machine: Machine, config: MultiwayConfig, batch: int) -> Reading | None:
    """One attempt; None when the memory does not suffice."""
    try:
        work = measurement.prepare(machine, config, batch)
        seconds = _seconds_per_step(work.step, machine)
    except torch.OutOfMemoryError:
        return None
    memory = None if machine.tiny else peak_memory(machine.device)
    return Reading("", batch, work.images / seconds, work.flops / seconds, memory)


def _clean_up(machine: Machine) -> None:
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
        """What the body returns, or why there is nothing: it failed, or the time is over."""
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
            _clean_up(machine)
        return reason


def line(measurement: Measurement, machine: Machine, config: MultiwayConfig, *, batch: int, budget: Budget) -> Reading:
    """A measurement's reading, with or without numbers."""
    if measurement.model == "torchscale" and not peers.has_torchscale():
        return Reading(f"skipped: {peers.TORCHSCALE_ABSENT}")
    if measurement.variant == "compile" and not machine.compiles:
        return Reading("skipped: without a GPU only with --compile" if machine.tiny else "skipped: --no-compile")
    found = budget.run(partial(read, measurement, machine, config, batch=batch), machine)
    reading = Reading(found) if isinstance(found, str) else found
    # At once: the table comes last, and not at all when somebody ends this process.
    said = f"{reading.rate:.4g} images/s" if reading.rate else reading.remark
    print(f"{budget.used:4.0f} s: {measurement.name}, width {config.dim}: {said}", file=sys.stderr, flush=True)
    return reading


def difference(machine: Machine, config: MultiwayConfig) -> float:
    """Largest difference of our fp32 outputs from torchscale's."""
    ours, other = (_made(make, config, machine) for make in (peers.ours, peers.torchscale))
    peers.vary(ours.model)
    peers.copy_weights(ours.model, other)
    return peers.largest_difference(ours, other, peers.random_images(config, 2, device=machine.device))


def compare_outputs(machine: Machine, configs: Mapping[str, MultiwayConfig], budget: Budget) -> Iterator[Compared]:
    """Whether ours and torchscale compute the same, by size."""
    for size, config in configs.items() if peers.has_torchscale() else ():
        found = budget.run(partial(difference, machine, config), machine)
        _clean_up(machine)
        if isinstance(found, str):
            yield Compared(False, f"{size}: the outputs could not be compared with torchscale's ({found})")
        else:
            equal = found <= peers.TOLERANCE
            verdict = "" if equal else f", more than {peers.TOLERANCE}: the ratios compare unequal things"
            yield Compared(
                equal, f"{size}: largest difference of an fp32 output from torchscale's {found:.1e}{verdict}"
            )


def measure(machine: Machine, *, sizes: Sequence[str], only: str, seconds: float) -> Report:
    """Everything, within that time."""
    budget = Budget(seconds)
    configs = {size: backbones.resolve(peers.SIZES[size], final_norm=False) for size in sizes}
    compared = list(compare_outputs(machine, configs, budget))
    peak = budget.run(partial(peak_flops, machine), machine)
    readings = {
        (measurement.work, size, measurement.model, measurement.variant): line(
            measurement, machine, configs[size], batch=measurement.batches[size], budget=budget
        )
        for measurement in MEASUREMENTS
        for size in sizes
        if only in measurement.name and size in measurement.batches
    }
    precision = str(machine.dtype).removeprefix("torch.")
    said = peak if isinstance(peak, str) else f"{peak / 1e12:.3g} TFLOP/s (utilisation 100 %)"
    tiny = "NO GPU: TINY SIZES, ONLY TO SEE THAT EVERYTHING RUNS. " if machine.tiny else ""
    return Report(
        title=f"{tiny}Images alone, {precision}: {surroundings(machine.device)}",
        rows=[_row(key, readings, None if isinstance(peak, str) else peak) for key in readings],
        notes=[
            *[found.note for found in compared],
            f"Measured peak of a {precision} matrix product: {said}",
            f"Took {budget.used:.0f} s of {budget}",
        ],
        missed=[found.note for found in compared if not found.equal],
    )


Key = tuple[str, str, str, str]  # work, size, model, variant


def _row(key: Key, readings: Mapping[Key, Reading], peak: float | None) -> dict:
    work, size, model, variant = key
    reading = readings[key]
    peer = readings.get((work, size, "torchscale", "eager"), Reading())
    return {
        "work": work,
        "size": size,
        "model": model,
        "variant": variant,
        "batch": reading.batch,
        "images/s": reading.rate,
        "MFU %": 100 * reading.flops / peak if reading.flops and peak else None,
        "peak GiB": reading.memory / GIB if reading.memory else None,
        "× torchscale eager": reading.rate / peer.rate if reading.rate and peer.rate else None,
        "remark": reading.remark,
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = arguments(__doc__)
    parser.add_argument("--sizes", nargs="+", choices=list(peers.SIZES), default=["base", "large"], help="with a GPU")
    parser.add_argument("--only", default="", metavar="TEXT", help="measurements whose name has this, as in 'training'")
    parser.add_argument("--budget", type=float, default=420.0, help="seconds for everything (%(default)s)")
    parser.add_argument("--rounds", type=int, default=10, help=f"readings of {BURST} steps (%(default)s)")
    parser.add_argument("--warmup", type=int, default=3, help="untimed steps before them (%(default)s)")
    parser.add_argument("--compile", action="store_true", help="torch.compile without a GPU too")
    parser.add_argument("--no-compile", action="store_true", help="no torch.compile on a GPU either")
    args = parser.parse_args(argv)
    where = device()
    gpu = where.type == "cuda"
    machine = Machine(
        device=where,
        dtype=torch.bfloat16 if gpu or precision("auto", where) == "bf16" else torch.float32,
        rounds=args.rounds,
        warmup=args.warmup,
        compiles=args.compile or (gpu and not args.no_compile),
    )
    with contextlib.redirect_stdout(sys.stderr):
        report = measure(machine, sizes=args.sizes if gpu else ["nano"], only=args.only, seconds=args.budget)
    return report.show(args.json)


if __name__ == "__main__":
    sys.exit(main())
