"""The training step through the engine against a bare loop of plain PyTorch.

Both train the same ImageClassifier with the same optimizer, schedule and precision, on random images in memory.
The bare loop is what one writes by hand: next batch, learning rate, forward under autocast, backward, step,
zero_grad. The engine is `harness.training.fine_tune` as users call it, with its checks, logs and seeding.

The two alternate step by step inside one run. `fine_tune` asks its data set for the first item of a batch exactly
once a step, so the data set is the clock: there it ends the engine's step, has the bare loop do one step on the
same model, and starts the engine's next. Segments of many steps, or one run after the other, would compare
minutes that a shared machine spends differently; here every step of the engine stands between two bare ones
seconds apart, and the overhead is the median of (engine - mean of its two neighbours), relative to a bare step.
Its uncertainty is the standard error of that median.

A second figure is hardly touched by noise but incomplete: the seconds of a step that pass before the model is
entered and after the optimizer has stepped (data, seeding, checks, logs), engine minus bare, as a mean, so that
what happens every 20th step counts too. Only on a CPU: on a GPU that time overlaps the GPU's work. (There both
loops wait for the GPU at the end of a step, so the first figure leaves out what the engine's own waiting costs.)

Not in the figures: the checkpoint at an epoch's end, which is not a cost of a step (the one after ten minutes
would be in the second figure: take fewer --steps than last so long). Target, for base: at most 3 % by the first
figure; the exit status is 1 when it is more.

    python -m tests.benchmarks.engine --threads 2

Last figures:
    Two cores of an AMD EPYC, torch 2.11.0, base, batch 8, bf16, 20 steps: bare 2.99 s, engine 2.98 s a step,
    overhead -0.1 % ± 0.3; outside model and optimizer 0.2 %.
    Since checks of losses, weights and checkpoints were added, another AMD EPYC, 40 steps: bare 2.96 s, engine 2.90 s,
    overhead -0.9 % ± 0.6; outside model and optimizer 0.5 %.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.data import DataLoader, Dataset

import backbones
from harness.device import autocast, device, precision
from harness.optim import adamw, recipe_schedule
from harness.training import fine_tune
from tasks.classification.model import ImageClassifier
from tasks.recipe import Recipe
from tests.benchmarks import peers
from tests.benchmarks.report import Report, arguments, surroundings, use_threads
from tests.benchmarks.timing import now

CLASSES = 1000
TARGET = 3.0  # percent
TARGET_SIZE = "base"
BATCHES_IN_MEMORY = 4


class RandomImages(Dataset):
    """Labelled random images that cost nothing to load."""

    def __init__(self, config: backbones.MultiwayConfig, count: int) -> None:
        self._images = peers.random_images(config, count)
        self._labels = torch.randint(CLASSES, (count,), generator=torch.Generator().manual_seed(0)).tolist()

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": self._images[index], "label": self._labels[index]}


class BareLoop:
    """The training loop without an engine, one step per call."""

    def __init__(self, model: ImageClassifier, items: Dataset, recipe: Recipe, *, steps: int) -> None:
        self._model = model
        self._optimizer = adamw(model, recipe)
        self._rates = iter(recipe_schedule(recipe, steps_per_epoch=steps).tolist())
        self._where = device()
        self._precision = precision(recipe.precision, self._where)
        pin = self._where.type == "cuda"
        loader = DataLoader(items, batch_size=recipe.batch_size, shuffle=True, drop_last=True, pin_memory=pin)
        self._batches = _endless(loader)

    def __call__(self) -> None:
        batch = next(self._batches)
        rate = next(self._rates)
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]
        with autocast(self._precision, self._where):
            moved = {name: tensor.to(self._where, non_blocking=True) for name, tensor in batch.items()}
            loss = self._model(**moved, mode="loss")["loss"]
        loss.backward()
        self._optimizer.step()
        self._optimizer.zero_grad()


def _endless(loader: DataLoader) -> Iterator[dict[str, Tensor]]:
    while True:
        yield from loader


@dataclass(frozen=True)
class Step:
    """Seconds of one training step."""

    whole: float
    outside: float  # before the model is entered and after the optimizer has stepped


class Stopwatch:
    """Times a step, whoever makes it, by hooks on the model and on all optimizers."""

    def __init__(self, model: nn.Module) -> None:
        self._began = self._entered = self._left = 0.0
        self._hooks = [
            model.register_forward_pre_hook(self._enter),
            register_optimizer_step_post_hook(self._leave),
        ]

    def start(self) -> None:
        self._began = now()

    def stop(self) -> Step:
        ended = now()
        return Step(ended - self._began, self._entered - self._began + ended - self._left)

    def close(self) -> None:
        for hook in self._hooks:
            hook.remove()

    # Without waiting for a GPU: that would take away the overlap which the whole step is about.
    def _enter(self, *_: object) -> None:
        self._entered = time.perf_counter()

    def _leave(self, *_: object) -> None:
        self._left = time.perf_counter()


class Finished(Exception):
    """Enough steps are measured."""


@dataclass
class Taken:
    """The steps that were timed: bare[i], then engine[i], then bare[i + 1]."""

    bare: list[Step] = field(default_factory=list)
    engine: list[Step] = field(default_factory=list)

    def without_warmup(self, steps: int) -> Taken:
        return Taken(self.bare[steps:], self.engine[steps:])


class AlternatingSteps(Dataset):
    """The engine's data set: between two steps of the engine it has the bare loop do one.

    One batch more than is measured: the last step of the schedule, with its checkpoint, is never reached.
    """

    def __init__(
        self, items: RandomImages, *, batch: int, steps: int, bare: Callable[[], None], watch: Stopwatch
    ) -> None:
        self.taken = Taken()
        self._items = items
        self._batch = batch
        self._steps = steps
        self._bare = bare
        self._watch = watch
        self._asked = 0

    def __len__(self) -> int:
        return (self._steps + 1) * self._batch

    def __getitem__(self, index: int) -> dict[str, Any]:
        if self._asked % self._batch == 0:
            self._between_steps()
        self._asked += 1
        return self._items[index % len(self._items)]

    def _between_steps(self) -> None:
        if self._asked:
            self.taken.engine.append(self._watch.stop())
        self._watch.start()
        self._bare()
        self.taken.bare.append(self._watch.stop())
        if len(self.taken.engine) == self._steps:
            raise Finished
        self._watch.start()


def take(*, size: str, batch: int, steps: int, precision: str) -> Taken:
    """Time that many steps of both loops, in turn."""
    config = backbones.resolve(peers.SIZES[size], final_norm=False)
    recipe = Recipe(
        name="benchmark", source="random images", image_size=config.image_size, epochs=1, warmup_epochs=0,
        batch_size=batch, micro_batch=batch, lr=1e-4, layer_decay=0.65, drop_path=0.0, workers=0, precision=precision,
    )  # fmt: skip
    torch.manual_seed(0)
    model = ImageClassifier(backbones.build(peers.SIZES[size], final_norm=False), classes=CLASSES).to(device())
    images = RandomImages(config, BATCHES_IN_MEMORY * batch)
    watch = Stopwatch(model)
    bare = BareLoop(model.train(), images, recipe, steps=steps + 1)
    items = AlternatingSteps(images, batch=batch, steps=steps, bare=bare, watch=watch)
    try:
        with tempfile.TemporaryDirectory() as folder, contextlib.suppress(Finished):
            fine_tune(model, items, recipe, folder=Path(folder), seed=0, log=())
    finally:
        watch.close()
    if len(items.taken.engine) != steps:
        raise RuntimeError(f"The engine made {len(items.taken.engine)} steps of {steps}.")
    return items.taken


@dataclass(frozen=True)
class Overhead:
    """Overhead of the engine over a bare step, in percent of it."""

    whole: float
    uncertainty: float  # standard error of `whole`
    outside: float


def overhead(taken: Taken) -> Overhead:
    """The figures of the module's description."""
    neighbours = [(a.whole + b.whole) / 2 for a, b in zip(taken.bare[:-1], taken.bare[1:], strict=True)]
    added = [step.whole - beside for step, beside in zip(taken.engine, neighbours, strict=True)]
    middle = statistics.median(added)
    # For normal noise: its deviation is 1.48 times the median absolute one, a median's error 1.25 times a mean's.
    deviation = 1.4826 * statistics.median(abs(value - middle) for value in added)
    error = 1.2533 * deviation / len(added) ** 0.5
    outside = statistics.mean(step.outside for step in taken.engine) - statistics.mean(
        step.outside for step in taken.bare
    )
    percent = 100 / statistics.median(step.whole for step in taken.bare)
    return Overhead(middle * percent, error * percent, outside * percent)


def measure(*, size: str, batch: int, steps: int, warmup: int, precision: str) -> Report:
    where = device()
    taken = take(size=size, batch=batch, steps=warmup + steps, precision=precision).without_warmup(warmup)
    found = overhead(taken)
    bare, engine = (statistics.median(step.whole for step in steps) for steps in (taken.bare, taken.engine))
    rows: list[dict] = [
        {
            "figure": "whole step",
            "bare loop s": bare,
            "engine s": engine,
            "overhead %": found.whole,
            "± %": found.uncertainty,
            f"target % ({TARGET_SIZE})": TARGET,
        }
    ]
    if where.type == "cpu":
        bare, engine = (statistics.mean(step.outside for step in steps) for steps in (taken.bare, taken.engine))
        values = ("outside model and optimizer", bare, engine, found.outside, None, None)
        rows.append(dict(zip(rows[0], values, strict=True)))
    over = size == TARGET_SIZE and found.whole > TARGET
    return Report(
        title=f"Training step, {size}, batch {batch}, {precision}, {steps} steps: {surroundings(where)}",
        rows=rows,
        missed=[f"overhead {found.whole:.2f} ± {found.uncertainty:.2f} %, target {TARGET} %"] if over else [],
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = arguments(__doc__)
    parser.add_argument("--size", choices=list(peers.SIZES), default=TARGET_SIZE)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=40, help="timed steps of each loop")
    parser.add_argument("--warmup", type=int, default=3, help="untimed steps before them")
    parser.add_argument("--precision", choices=["auto", "bf16", "fp16", "fp32"], default="auto")
    parser.add_argument("--threads", type=int, help="PyTorch's CPU threads")
    args = parser.parse_args(argv)
    use_threads(args.threads)
    chosen = precision(args.precision, device())
    with contextlib.redirect_stdout(sys.stderr):
        report = measure(size=args.size, batch=args.batch, steps=args.steps, warmup=args.warmup, precision=chosen)
    return report.show(args.json)


if __name__ == "__main__":
    sys.exit(main())
