"""The training loop: one iteration is one optimizer step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from mmengine.registry import LOOPS
from mmengine.runner import BaseLoop, Runner
from torch.utils.data import DataLoader

from harness import distributed
from harness.loading import Unbroken, seed_everything


@LOOPS.register_module()
class StepLoop(BaseLoop):
    """A loop whose iteration is one optimizer step, made of `accumulation` batches.

    Logs, schedule, EMA and checkpoints then count optimizer steps whatever the accumulation, and a run can be
    resumed on another number of processes.

    batches: from the start of `run` on; its `waited` are the seconds in which there was no batch to go on with.
    """

    def __init__(self, runner: Runner, dataloader: DataLoader, *, max_iters: int, accumulation: int, seed: int) -> None:
        super().__init__(runner, dataloader)
        self._max_iters = max_iters
        self._accumulation = accumulation
        self._seed = seed
        self._epoch = 0  # Runner.resume sets both
        self._iter = 0
        self.stop_training = False

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
        runner = self.runner
        runner.model.train()
        task_model = getattr(runner.model, "module", runner.model)
        if hasattr(task_model, "step"):
            task_model.step = self._iter
        outputs: dict[str, torch.Tensor] = {}
        for part in range(self._accumulation):
            batch = next(batches)
            if part == 0:
                runner.call_hook("before_train_iter", batch_idx=self._iter, data_batch=batch)
            seed_everything(self._seed, self._iter, part, distributed.rank())
            losses = runner.model.train_step(batch, optim_wrapper=runner.optim_wrapper)
            for name, value in losses.items():
                outputs[name] = outputs.get(name, 0) + value.detach() / self._accumulation
        runner.call_hook("after_train_iter", batch_idx=self._iter, data_batch=batch, outputs=outputs)
        self._iter += 1
