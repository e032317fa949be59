"""Forward of images alone: ours against torchscale's BEiT3 and timm's beit3_base_patch16_224.

First all three are given the same weights, and their fp32 outputs are compared; what computes something else is not
timed. Then each runs in a process of its own, as its users run it: ours with packed weights and with the settings of
the `harness` command's process (freed memory is kept), the others as they come. "Kept" lines have the others with those
settings too. Calls alternate between the processes. What a process gets from glibc's allocator varies from start to
start (see the page faults), so all are started several times.

Batch 8 at the configured image size, no final norm (timm has none), inference mode, fp32 and then bf16 (the models
cast, no autocast). Seconds are medians, and a ratio is the median of the rounds' ratios.

Targets, for base: at least 1.2 times as fast as torchscale and no slower than timm, in both precisions. The exit
status is 1 when one is missed, or cannot be judged because torchscale is absent.

    python -m tests.benchmarks.forward --threads 2

Last figures:
    Two cores of an AMD EPYC (AVX-512 with bf16, no AMX), torch 2.11.0, idle, 5 starts of 3 rounds:
    fp32: ours 1.39 s, torchscale 1.72 s (1.23 times), timm 1.57 s (1.11 times);
    bf16: ours 0.779 s, torchscale 0.993 s (1.27 times), timm 0.825 s (1.06 times).
    With freed memory kept for all: torchscale 1.60 and 0.832 s (1.15 and 1.07 times), timm 1.53 and 0.825 s (1.10 and
    1.06 times). What is left there is arithmetic: products, the same for all, run at 93 % of these cores' peak and are
    nine tenths of our time in fp32 and eight in bf16.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

import backbones
from harness.device import device
from tests.benchmarks import apart, peers, timing
from tests.benchmarks.report import Report, arguments, surroundings, use_threads

TARGETS = {"torchscale": 1.2, "timm": 1.0}  # how many times faster we are
TARGET_SIZE = "base"
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
KEPT = ", kept"  # behind the name of a peer that has our process's settings


@dataclass(frozen=True, kw_only=True)
class Repeats:
    starts: int  # of every process
    rounds: int  # after each start
    warmup: int  # rounds that are not timed


def measure(*, size: str, batch: int, repeats: Repeats) -> Report:
    """Time all implementations of one size that are installed."""
    where = device()
    config = backbones.resolve(peers.SIZES[size], final_norm=False)
    notes = _compare(config, peers.random_images(config, batch))
    names = ["ours", *_others(), *[name + KEPT for name in _others()]]
    taken = [_once(names, size=size, batch=batch, repeats=repeats) for _ in range(repeats.starts)]
    rows = [row for precision in PRECISIONS for row in _rows(precision, [one[precision] for one in taken], batch)]
    return Report(
        title=f"Forward, {size}, {config.image_size} px, batch {batch}: {surroundings(where)}",
        rows=rows,
        notes=notes,
        missed=missed(rows) if size == TARGET_SIZE else (),
    )


def _others() -> list[str]:
    return [*(["torchscale"] if peers.has_torchscale() else []), "timm"]


def _compare(config: backbones.MultiwayConfig, image: torch.Tensor) -> list[str]:
    """Remarks on the others' outputs with our weights.

    Raises:
        SystemExit: one computes something else.
    """
    notes = [] if peers.has_torchscale() else [f"Skipped: {peers.TORCHSCALE_ABSENT}"]
    first = peers.ours(config)
    peers.vary(first.model)
    for name in _others():
        other = getattr(peers, name)(config)
        peers.copy_weights(first.model, other)
        difference = peers.largest_difference(first, other, image)
        notes.append(f"Largest difference of an fp32 output from {name}'s: {difference:.1e}")
        if difference > peers.TOLERANCE:
            raise SystemExit(f"{notes[-1]}: more than {peers.TOLERANCE}, so there is nothing to compare.")
    return notes


@dataclass(frozen=True)
class Taken:
    """By implementation, a value for each round."""

    seconds: Mapping[str, list[float]]
    page_faults: Mapping[str, list[int]]


def _once(names: Sequence[str], *, size: str, batch: int, repeats: Repeats) -> dict[str, Taken]:
    """By precision, what a start of all implementations takes."""
    taken = {}
    with _running(names, size=size, batch=batch) as forwards:
        for precision, dtype in PRECISIONS.items():
            for forward in forwards.values():
                forward.cast(dtype)
            seconds = timing.interleaved(forwards, rounds=repeats.rounds, warmup=repeats.warmup)
            faults = {name: forward.page_faults[repeats.warmup :] for name, forward in forwards.items()}
            taken[precision] = Taken(seconds, faults)
    return taken


@contextlib.contextmanager
def _running(names: Sequence[str], *, size: str, batch: int) -> Iterator[dict[str, apart.Forward]]:
    with contextlib.ExitStack() as stack:
        forwards = {}
        for name in names:
            keeps_memory = name == "ours" or name.endswith(KEPT)
            forward = apart.Forward(name.removesuffix(KEPT), size=size, batch=batch, keeps_memory=keeps_memory)
            forwards[name] = stack.enter_context(contextlib.closing(forward))
        yield forwards


def _rows(precision: str, starts: Sequence[Taken], batch: int) -> list[dict]:
    seconds, faults = defaultdict(list), defaultdict(list)
    for taken in starts:
        for name in taken.seconds:
            seconds[name] += taken.seconds[name]
            faults[name] += taken.page_faults[name]
    return [
        {
            "precision": precision,
            "implementation": name,
            "seconds": median,
            "fastest": min(seconds[name]),
            "page faults": statistics.median(faults[name]),
            "images/s": batch / median,
            "ours is × faster": None if name == "ours" else timing.speedup(seconds, "ours", name),
            f"target ({TARGET_SIZE})": TARGETS.get(name),
        }
        for name, median in timing.medians(seconds).items()
    ]


def missed(rows: Sequence[dict]) -> list[str]:
    """The targets that the rows miss or say nothing about."""
    ratios = {(row["precision"], row["implementation"]): row["ours is × faster"] for row in rows}
    found = []
    for precision in PRECISIONS:
        for name, target in TARGETS.items():
            ratio = ratios.get((precision, name))
            if ratio is None or ratio < target:
                said = "not measured" if ratio is None else f"{ratio:.3f}"
                found.append(f"{precision} against {name}: {said}, target {target}")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    parser = arguments(__doc__)
    parser.add_argument("--size", choices=list(peers.SIZES), default=TARGET_SIZE)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--starts", type=int, default=5, help="of every process")
    parser.add_argument("--rounds", type=int, default=3, help="after each start")
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--threads", type=int, help="PyTorch's CPU threads")
    args = parser.parse_args(argv)
    use_threads(args.threads)
    with contextlib.redirect_stdout(sys.stderr):
        repeats = Repeats(starts=args.starts, rounds=args.rounds, warmup=args.warmup)
        report = measure(size=args.size, batch=args.batch, repeats=repeats)
    return report.show(args.json)


if __name__ == "__main__":
    sys.exit(main())
