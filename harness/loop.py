"""Training loop whose iteration is one optimizer step, made of micro-batches."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from mmengine.model import BaseModel, ExponentialMovingAverage
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from backbones.errors import InputError, UsageError
from backbones.noise import Share, sharing
from harness import checkpoint, distributed, logs, sharding
from harness.batch import accumulation
from harness.compilation import compile_layers
from harness.device import describe, device, peak_memory, precision, reset_peak_memory
from harness.loading import Unbroken, seed_everything
from harness.optim import ScaledOptimizer, adamw
from harness.passes import backward_by_parts, backward_on_all
from harness.progress import bar, note
from harness.training_state import Progress, TrainingState
from harness.workdir import CHECKPOINT
from tasks.common.step_loss import StepLoss
from tasks.recipe import Recipe

LOG_EVERY = 20  # optimizer steps
NOTABLE_WAIT = 0.1  # share of the time that a training waits for data


class StepHook(Protocol):
    """Looks at the model between optimizer steps, in every process; it changes neither weights nor random numbers."""

    seconds: float  # spent in it, which do not count as training
    apart: bool  # a process calls the model without the others, so that a sharded one has to be put together for it

    def due(self, step: int, *, steps_per_epoch: int, last: int) -> bool:
        """Decide whether it is called after `step` of `last` steps."""

    def __call__(self, model: BaseModel, *, step: int, epoch: float) -> Mapping[str, float]:
        """Look at the model as it would be saved; returns scalars for the log by name."""


def train(
    model: BaseModel,
    micro_batches: Callable[[int], Iterable[Any]],
    recipe: Recipe,
    *,
    rates: np.ndarray,
    steps_per_epoch: int,
    folder: Path,
    seed: int,
    log: Sequence[str],
    title: str = "fine-tune",
    hooks: Sequence[StepHook] = (),
    run: str = "",
) -> dict[str, Any]:
    """Train a model in place, going on from `last.pth` in `folder` when it is there.

    Afterwards the model has the averaged weights when the recipe has an EMA, else those of the last step. Meanwhile a
    sharded training leaves it without values (`harness.sharding`). The checkpoint and the logs stay in `folder`.

    Args:
        model: `model(**batch, mode="loss")` gives a dict of losses, or it implements `StepLoss`; its backbone is
            `beit3`. An attribute `step`, where it has one, is set to the number of steps done before each step.
        micro_batches: the micro-batches of this process from an optimizer step on, endless, given the step (from 0).
        recipe: of its fields those of the optimizer, `batch_size`, `micro_batch`, `clip_grad`, `ema_decay`,
            `precision` and `split_alters` count.
        rates: learning rate of each optimizer step.
        steps_per_epoch: interval of the checkpoints, and of the epochs that `hooks` are told.
        log: "tensorboard" and "wandb" for these besides the local log file.
        hooks: called after the steps that they ask for.
        run: random name of the run, whose checkpoint alone is resumed.

    Returns:
        The columns of a result row that tell how the weights were trained.

    Raises:
        InputError: a loss that is not a number, unreadable data, no space, a checkpoint that cannot be resumed.
        UsageError: a batch that does not fit, other processes than before where that matters, or no such logger.
    """
    steps = len(rates)
    parts = accumulation(recipe, processes=distributed.world_size())
    folder.mkdir(parents=True, exist_ok=True)
    found = distributed.decided(lambda: checkpoint.newest(folder))
    before = _progress(found, recipe, run=run, steps=steps)
    reset_peak_memory(device())
    shared, state = _prepare(model, recipe)
    if before.step:
        checkpoint.load(found, state)
    started = saved = time.monotonic()
    spent, recent = 0.0, []  # seconds in steps, the wait for data included; values of the steps since the last log

    def seconds() -> float:
        return before.seconds + time.monotonic() - started - sum(hook.seconds for hook in hooks)

    with (
        bar(title, steps, done=before.step) as shown,
        logs.opened(folder / "log", log, step=before.step) as write,
    ):
        batches = Unbroken(micro_batches(before.step) if before.step < steps else ())
        for step in range(before.step, steps):
            began, rate, done = time.monotonic(), float(rates[step]), step + 1
            state.optimizer.set_rate(rate)
            values = optimizer_step(
                shared, batches, state.optimizer, step=step, parts=parts, micro_batch=recipe.micro_batch, seed=seed
            )
            took = time.monotonic() - began
            spent += took
            _require_finite(values["loss"], step=step, rate=rate, folder=folder)
            if state.ema:
                state.ema.update_parameters(state.model)
            recent.append(values | {"time": took})
            if done % LOG_EVERY == 0 or done == steps:
                write(_means(recent) | {"lr": rate, "data_wait": batches.waited / spent}, done)
                recent.clear()
            for hook in hooks:
                if hook.due(done, steps_per_epoch=steps_per_epoch, last=steps):
                    with _seen(state, model, apart=hook.apart) as seen:
                        write(hook(seen, step=done, epoch=done / steps_per_epoch), done)
            if _saves(state, done, every=steps_per_epoch, saved=saved):
                progress = Progress(step=done, seconds=seconds(), processes=distributed.world_size(), run=run)
                checkpoint.save(folder / CHECKPOINT, state, progress)
                saved = time.monotonic()
            waiting = batches.waited / spent
            told = f", waiting for data {waiting:.0%}" if waiting >= NOTABLE_WAIT else ""
            shown.advance(1, f"loss {values['loss']:.4f}{told}")
    if spent and batches.waited / spent >= NOTABLE_WAIT:
        note(
            f"The training waited for data {batches.waited / spent:.0%} of its time: more loader processes "
            "(--set workers=…) or a faster disk would shorten it"
        )
    if state.sharded:
        sharding.filled(model, state.result)
    elif state.ema:
        model.load_state_dict(state.ema.module.state_dict())
    return {
        "train_seconds": round(seconds(), 1),
        "train_steps": steps,
        "train_processes": distributed.world_size(),
        "train_micro_batch": recipe.micro_batch,
        "train_precision": precision(recipe.precision, device()),
        "train_device": describe(device()),
        "train_peak_memory": peak_memory(device()),
    }


def optimizer_step(
    model: nn.Module,
    batches: Iterator[Any],
    optimizer: ScaledOptimizer,
    *,
    step: int,
    parts: int,
    micro_batch: int,
    seed: int,
) -> dict[str, float]:
    """Take one optimizer step on the next `parts` micro-batches; returns losses and gradient norm for the log.

    Args:
        model: the task model, or the wrapper of several processes around it.
        step: number of steps before this one; with the seed it decides everything random.
    """
    model.train()
    task_model = getattr(model, "module", model)
    if hasattr(task_model, "step"):
        task_model.step = step
    noise = partial(_noise, seed=seed, step=step, parts=parts, micro_batch=micro_batch)
    own = islice(batches, parts)
    if isinstance(task_model, StepLoss):
        values = backward_on_all(model, list(own), optimizer, noise=noise)
    else:
        values = backward_by_parts(model, own, optimizer, count=parts, noise=noise)
    norm = optimizer.step()
    return _numbers(values if norm is None else values | {"grad_norm": norm})


@contextmanager
def _noise(part: int, *, seed: int, step: int, parts: int, micro_batch: int) -> Iterator[None]:
    """Context of one part's random numbers; those of stochastic depth follow from a sample's place in the batch."""
    seed_everything(seed, step, part, distributed.rank())
    processes = distributed.world_size()
    share = Share(
        seed=(seed, step),
        first=(part * processes + distributed.rank()) * micro_batch,
        count=micro_batch,
        batch=micro_batch * processes * parts,
    )
    with sharing(share):
        yield


def _numbers(values: Mapping[str, Tensor]) -> dict[str, float]:
    """Convert scalars to numbers with one transfer from the device; each by itself would wait for it."""
    stacked = torch.stack([torch.as_tensor(value).float().reshape(()) for value in values.values()])
    return dict(zip(values, stacked.tolist(), strict=True))


def _means(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of each scalar over several steps."""
    return {name: sum(step[name] for step in values) / len(values) for name in values[-1]}


def _progress(last: Path, recipe: Recipe, *, run: str, steps: int) -> Progress:
    """Progress of an interrupted training that this one may resume."""
    found = distributed.decided(lambda: checkpoint.read_progress(last, run=run, steps=steps))
    processes = distributed.world_size()
    if recipe.split_alters and found.step and found.processes != processes:
        raise UsageError(
            f"The training in {last.parent} began on {found.processes} process(es), and this recipe's gradients depend "
            f"on how a batch is split: it cannot be resumed on {processes}. Start as many processes as before, or "
            f"remove {last.parent} to begin again."
        )
    return found


def _prepare(model: BaseModel, recipe: Recipe) -> tuple[nn.Module, TrainingState]:
    """Set up a training: the model as it is called in it, and its initial state."""
    where = device()
    if distributed.world_size() > 1 and where.type == "cuda":
        # Batch normalisation cannot be synchronised on the CPU: PyTorch has it for GPUs only.
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    chosen = precision(recipe.precision, where)
    sharded = recipe.shard and distributed.world_size() > 1
    trained = sharding.copied(model) if sharded else model.to(where)
    ema = ExponentialMovingAverage(trained, momentum=1 - recipe.ema_decay) if recipe.ema_decay else None
    if recipe.compile:
        compile_layers(trained)
    if sharded:
        sharding.shard(trained, where=where, half=sharding.gathered(chosen, where))
        if ema:
            sharding.shard(ema.module, where=where, half=None)
            ema.to(where).avg_parameters = dict(ema.module.named_parameters())
        sharding.emptied(model)
    optimizer = ScaledOptimizer(
        adamw(model, recipe, trained=trained if sharded else None),
        precision=chosen,
        device=where,
        clip_grad=recipe.clip_grad,
    )
    state = TrainingState(model=trained, optimizer=optimizer, ema=ema)
    if sharded or distributed.world_size() == 1:
        return trained, state
    # Most tasks leave some of the backbone alone: the mask token, experts of the modality that they do not have.
    options = {"broadcast_buffers": False, "find_unused_parameters": True}
    devices = [where.index] if where.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=devices, **options), state


@contextmanager
def _seen(state: TrainingState, model: BaseModel, *, apart: bool) -> Iterator[BaseModel]:
    """The model as it would be saved, for a hook.

    Args:
        model: that a sharded training has left without values.
    """
    if not state.sharded:
        yield state.result
    elif apart:
        with sharding.whole(model, state.result):
            yield model
    else:
        yield state.result
        sharding.divided_again(state.result)


def _saves(state: TrainingState, step: int, *, every: int, saved: float) -> bool:
    """Decide whether this process takes part in saving a checkpoint now; a sharded one takes all of them."""
    if state.sharded:
        return distributed.decided(lambda: checkpoint.due(step, every=every, saved=saved))
    return distributed.rank() == 0 and checkpoint.due(step, every=every, saved=saved)


def _require_finite(loss: float, *, step: int, rate: float, folder: Path) -> None:
    """Stop a training whose loss is not a number before it is saved."""
    if not math.isfinite(loss):
        kept = checkpoint.newest(folder)
        good = f" The last good state is kept in {kept}." if kept.exists() else ""
        raise InputError(
            f"The loss is {loss} at step {step + 1} (learning rate {rate:.3g}). Try a lower peak (--set lr=…), a "
            "longer warm-up (--set warmup_epochs=…), gradient clipping (--set clip_grad=1.0) or --set precision=fp32, "
            f"in another --out folder.{good}"
        )
