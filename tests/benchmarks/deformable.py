"""Deformable attention: ours against mmcv's own PyTorch form, at the sizes of Mask2Former's pixel decoder at 896 px.

Three levels (strides 32, 16, 8: 16,464 cells, each of them a query too), 32 heads of 32, four points, one image, fp32.
Queries sample around their own place, some cells away, as a trained layer does. Both sides' results and gradients are
compared before anything is timed; calls alternate. Memory is what a process takes more for a forward and backward, each
side in a process of its own (on a GPU: the largest allocation).

Targets: no slower than mmcv's form, forward and backward. The exit status is 1 when one is missed.

    python -m tests.benchmarks.deformable --threads 2

Last figures:
    Two cores of an AMD EPYC (AVX-512, no AMX), torch 2.11.0, others on the machine (load 2 to 3.6), fp32, 3 rounds:
    2 threads, two runs: forward 0.46 and 0.44 s against 3.4 and 3.5 s (7.1 and 8.0 times), backward 2.5 and 2.6 s
    against 5.3 and 5.6 s (2.1 and 2.2 times), 0.46 to 0.49 GiB against 2.4 GiB;
    1 thread: forward 0.29 s against 3.4 s (11.9 times), backward 2.2 s against 5.3 s (2.4 times);
    16 heads of 44 (ViT-Adapter at the giant), 2 threads: forward 0.15 s against 1.05 s (7.0 times), backward 1.3 s
    against 3.1 s (2.3 times), 0.33 GiB against 1.65 GiB.
    At load 5 to 7 the backward's lead was seen to shrink to 1.04 times, before it was last made faster.
    GPU: not measured.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from backbones import operators
from backbones.operators.deformable_attention import deformable_attention
from harness.device import device, peak_memory
from tests.benchmarks import timing
from tests.benchmarks.report import Report, arguments, surroundings, use_threads

TARGET = 1.0  # times as fast as mmcv's form
TOLERANCE = 1e-3  # relative, of the norm of a gradient; that by location jumps where a sample crosses a cell's centre
STRIDES = (32, 16, 8)
SPREAD = 2.0  # cells, standard deviation of a sample's distance from its query
GIB = 2**30

Attend = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def mmcv_form() -> Attend:
    """`multi_scale_deformable_attn_pytorch` from mmcv's source: in mmcv's module ours may have its place."""
    operators.provide()
    from mmcv.ops import multi_scale_deform_attn

    tree = ast.parse(inspect.getsource(multi_scale_deform_attn))
    name = "multi_scale_deformable_attn_pytorch"
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    namespace = {"torch": torch, "F": torch.nn.functional}
    exec(compile(tree, multi_scale_deform_attn.__file__, "exec"), namespace)
    return namespace[name]


SIDES: dict[str, Callable[[], Attend]] = {"ours": lambda: deformable_attention, "mmcv": mmcv_form}


class Inputs:
    """Random values and weights, and locations around each query's own place."""

    def __init__(self, *, pixels: int, heads: int, dim: int, points: int, where: torch.device) -> None:
        generator = torch.Generator().manual_seed(0)
        sides = torch.tensor([pixels // stride for stride in STRIDES])
        self.shapes = torch.stack([sides, sides], 1).to(where)
        centres = [(torch.arange(side) + 0.5) / side for side in sides.tolist()]
        places = torch.cat([torch.cartesian_prod(centre, centre) for centre in centres])
        size = (1, len(places), heads, len(STRIDES), points)
        apart = SPREAD * torch.randn(*size, 2, generator=generator) / sides[:, None, None]
        weights = torch.rand(size, generator=generator)
        self.value = torch.randn(1, len(places), heads, dim, generator=generator).to(where).requires_grad_()
        self.locations = (places.view(1, -1, 1, 1, 1, 2) + apart).to(where).requires_grad_()
        self.weights = (weights / weights.sum((-1, -2), keepdim=True)).to(where).requires_grad_()
        self.grad = torch.randn(1, len(places), heads * dim, generator=generator).to(where)

    def forward(self, attend: Attend) -> Tensor:
        return attend(self.value, self.shapes, self.locations, self.weights)

    def backward(self, out: Tensor) -> tuple[Tensor, ...]:
        inputs = (self.value, self.locations, self.weights)
        return torch.autograd.grad(out, inputs, self.grad, retain_graph=True)


def difference(inputs: Inputs, sides: Sequence[Attend]) -> float:
    """The largest of the four relative differences: of the results, and of the gradients by each input."""
    found = []
    for attend in sides:
        out = inputs.forward(attend)
        found.append((out.detach(), *inputs.backward(out)))
    return max(((ours - theirs).norm() / theirs.norm()).item() for ours, theirs in zip(*found, strict=True))


def memory(name: str, size: Sequence[str]) -> int:
    """Bytes that a forward and a backward take, in a process that does nothing else.

    To be called while this process is small: on Linux a process's largest memory begins at its parent's.
    """
    command = [sys.executable, "-m", "tests.benchmarks.deformable", "--memory-of", name, *size]
    return int(
        subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, check=True, text=True).stdout
    )


def taken(inputs: Inputs, attend: Attend, where: torch.device) -> int:
    before = peak_memory(where)
    inputs.backward(inputs.forward(attend))
    return peak_memory(where) - before


def measure(make: Callable[[], Inputs], *, where: torch.device, rounds: int, size: Sequence[str]) -> Report:
    """Take both sides' memory, compare them, then time them."""
    peaks = {name: memory(name, size) for name in SIDES}
    inputs, sides = make(), {name: side() for name, side in SIDES.items()}
    apart = difference(inputs, list(sides.values()))
    if not apart <= TOLERANCE:
        raise SystemExit(f"The sides differ by {apart:.1e}: there is nothing to compare.")
    rows = []
    forward = timing.interleaved({name: _no_grad(inputs, attend) for name, attend in sides.items()}, rounds=rounds)
    outs = {name: inputs.forward(attend) for name, attend in sides.items()}
    backward = timing.interleaved({name: partial(inputs.backward, out) for name, out in outs.items()}, rounds=rounds)
    for name in sides:
        for what, seconds in (("forward", forward), ("backward", backward)):
            rows.append(
                {
                    "implementation": name,
                    "pass": what,
                    "seconds": timing.medians(seconds)[name],
                    "fastest": min(seconds[name]),
                    "ours is × faster": None if name == "ours" else timing.speedup(seconds, "ours", name),
                    "GiB for both": peaks[name] / GIB if what == "forward" else None,
                }
            )
    return Report(
        title=f"Deformable attention, {inputs.value.shape[1]:,} queries: {surroundings(where)}",
        rows=rows,
        notes=[f"Largest relative difference of the result and its gradients: {apart:.1e}"],
        missed=missed(rows),
    )


def _no_grad(inputs: Inputs, attend: Attend) -> Callable[[], Tensor]:
    return torch.no_grad()(partial(inputs.forward, attend))


def missed(rows: Sequence[dict]) -> list[str]:
    """The targets that the rows miss."""
    ratios = {row["pass"]: row["ours is × faster"] for row in rows if row["implementation"] == "mmcv"}
    return [f"{name}: {ratio:.3f}, target {TARGET}" for name, ratio in ratios.items() if ratio < TARGET]


def main(argv: Sequence[str] | None = None) -> int:
    parser = arguments(__doc__)
    parser.add_argument("--pixels", type=int, default=896, help="of the image's side, a multiple of 32")
    parser.add_argument("--heads", type=int, default=32)
    parser.add_argument("--dim", type=int, default=32, help="of a head")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, help="PyTorch's CPU threads")
    parser.add_argument("--memory-of", choices=list(SIDES), help="only print the bytes that this side takes")
    args = parser.parse_args(argv)
    use_threads(args.threads)
    where = device()
    make = partial(Inputs, pixels=args.pixels, heads=args.heads, dim=args.dim, points=4, where=where)
    if args.memory_of:
        print(taken(make(), SIDES[args.memory_of](), where))
        return 0
    size = [text for name in ("pixels", "heads", "dim") for text in (f"--{name}", str(getattr(args, name)))]
    with contextlib.redirect_stdout(sys.stderr):
        report = measure(make, where=where, rounds=args.rounds, size=size)
    return report.show(args.json)


if __name__ == "__main__":
    sys.exit(main())
