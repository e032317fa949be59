"""Losses that look at all samples of an optimizer step, over its micro-batches and processes.

A model with such a loss implements `StepLoss`; how the engine computes its gradients is said in `harness/passes.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
import torch.distributed as dist
from torch import Tensor

Outputs = Mapping[str, Tensor]


@runtime_checkable
class StepLoss(Protocol):
    """A task model whose loss is not a mean over the micro-batches of a step.

    `model(**batch, mode="outputs")` returns `Outputs` of one micro-batch: all that the loss needs, its
    parameters included.
    """

    def step_loss(self, outputs: Sequence[Outputs]) -> Tensor:
        """The step's loss from the outputs of each of this process's micro-batches, in order; uses no parameters.

        Its gradients, averaged over processes, are those of one process with the whole batch.
        """

    def stand_in(self, batch: Mapping[str, Any]) -> Outputs | None:
        """Outputs made without the model, if the loss is linear in its outputs and these suffice for its factors.

        None if not.
        """


def gathered(features: Tensor) -> Tensor:
    """[batch, dim] of every process, in the order of ranks: [processes × batch, dim], with gradients.

    For a loss that every process computes in full, and gradients that are averaged over processes.
    """
    if processes() == 1:
        return features
    return _Gather.apply(features)


def in_order(parts: Tensor) -> Tensor:
    """This process's [micro-batches, samples, …] and all others', in the batch's order: [batch, …]; no gradients.

    A batch is dealt out in micro-batches, one to each process, then the next one to each.
    """
    if processes() == 1:
        return parts.flatten(0, 1)
    found = [torch.empty_like(parts) for _ in range(processes())]
    dist.all_gather(found, parts.contiguous())
    return torch.stack(found, dim=1).flatten(0, 2)


def own(batch: Tensor, *, micro_batch: int) -> Tensor:
    """The inverse of `in_order`: [batch, …] -> this process's [micro-batches, samples, …]."""
    rank = dist.get_rank() if processes() > 1 else 0
    return batch.unflatten(0, (-1, processes(), micro_batch))[:, rank]


def largest(value: int, device: torch.device) -> int:
    """The largest value over processes."""
    if processes() == 1:
        return value
    found = torch.tensor(value, device=device)
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return int(found)


def summed(values: Tensor) -> Tensor:
    """The sum over processes, without gradients; the values stay as they are."""
    if processes() == 1:
        return values
    total = values.detach().clone()
    dist.all_reduce(total)
    return total


def processes() -> int:
    """Number of processes that share the batch."""
    return dist.get_world_size() if dist.is_initialized() else 1


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor) -> Tensor:
        parts = [torch.empty_like(features) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, features.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # As the loss is the same in every process, each has the whole gradient already and keeps its own rows. The
        # average over processes will divide by their number what only one of them contributes.
        processes = dist.get_world_size()
        return gradient.chunk(processes)[dist.get_rank()] * processes
