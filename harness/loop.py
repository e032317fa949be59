"""The training loop: one iteration is one optimizer step."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from mmengine.registry import LOOPS
from mmengine.runner import BaseLoop, Runner
from torch.utils.data import DataLoader

from backbones.noise import Share, sharing
from harness import distributed
from harness.loading import Unbroken, seed_everything
from harness.passes import step_on_all
from tasks.common.step_loss import StepLoss


@LOOPS.register_module()
class StepLoop(BaseLoop):
    """A loop whose iteration is one optimizer step, made of `accumulation` batches of `micro_batch` samples.

    Logs, schedule, EMA and checkpoints then count optimizer steps whatever the accumulation, and a run can be
    resumed on another number of processes.

    batches: from the start of `run` on; its `waited` are the seconds in which there was no batch to go on with.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader,
        *,
        max_iters: int,
        micro_batch: int,
        accumulation: int,
        seed: int,
    ) -> None:
        super().__init__(runner, dataloader)
        self._max_iters = max_iters
        self._micro_batch = micro_batch
        self._accumulation = accumulation
        self._seed = seed
        self._epoch = 0  # Runner.resume sets both
        self._iter = 0
        self.stop_training = False
        self.spent = 0.0  # seconds in steps, the wait for their data included

    @property
    def max_epochs(self) -> int:
        return 1

    @property
    def max_iters(self) -> int:
        return self._max_iters

    @property
    def epoch(self) -> int:
        return self._epoch

    @property
    def iter(self) -> int:
        return self._iter

    def run(self) -> torch.nn.Module:
        runner = self.runner
        runner.call_hook("before_train")
        runner.call_hook("before_train_epoch")
        self.dataloader.batch_sampler.start = self._iter
        self.batches = Unbroken(self.dataloader if self._iter < self._max_iters else ())
        while self._iter < self._max_iters:
            self._run_step(self.batches)
        runner.call_hook("after_train_epoch")
        runner.call_hook("after_train")
        return runner.model

    def _run_step(self, batches: Iterator[Any]) -> None:
        began = time.monotonic()
        runner = self.runner
        runner.model.train()
        task_model = getattr(runner.model, "module", runner.model)
        if hasattr(task_model, "step"):
            task_model.step = self._iter
        first = next(batches)
        runner.call_hook("before_train_iter", batch_idx=self._iter, data_batch=first)
        rest = (next(batches) for _ in range(self._accumulation - 1))
        if isinstance(task_model, StepLoss):
            parts = [first, *rest]
            outputs = step_on_all(runner.model, parts, runner.optim_wrapper, noise=self._noise)
        else:
            outputs = self._step_by_parts(chain([first], rest))
        numbers = _numbers(outputs)
        self.spent += time.monotonic() - began
        runner.call_hook("after_train_iter", batch_idx=self._iter, data_batch=first, outputs=numbers)
        self._iter += 1

    def _step_by_parts(self, parts: Iterable[Any]) -> dict[str, torch.Tensor]:
        """An optimizer step on a loss that is a mean over the parts."""
        outputs: dict[str, torch.Tensor] = {}
        for number, batch in enumerate(parts):
            with self._noise(number):
                losses = self.runner.model.train_step(batch, optim_wrapper=self.runner.optim_wrapper)
            for name, value in losses.items():
                outputs[name] = outputs.get(name, 0) + value.detach() / self._accumulation
        return outputs

    @property
    def waiting(self) -> float:
        """Share of the time in steps that this process waited for data."""
        return self.batches.waited / self.spent if self.spent else 0.0

    @contextmanager
    def _noise(self, part: int) -> Iterator[None]:
        """The noise of one part: stochastic depth's follows from a sample's place in the step's batch."""
        seed_everything(self._seed, self._iter, part, distributed.rank())
        processes = distributed.world_size()
        share = Share(
            seed=(self._seed, self._iter),
            first=(part * processes + distributed.rank()) * self._micro_batch,
            count=self._micro_batch,
            batch=self._micro_batch * processes * self._accumulation,
        )
        with sharing(share):
            yield


def _numbers(outputs: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Losses as numbers, fetched from the device at once: the hooks' own conversions would wait for it one by one."""
    values = torch.stack([torch.as_tensor(value).float().reshape(()) for value in outputs.values()])
    return dict(zip(outputs, values.tolist(), strict=True))
