"""Gradients of a step's loss, with the memory of one micro-batch.

A loss that is a mean over the parts of a batch is accumulated part by part (`backward_by_parts`).

A loss over the outputs of all parts (`tasks.common.step_loss`) is not (`backward_on_all`). So the parts go
through the model twice: first without a graph, for the outputs and the loss's gradient at them; then with a graph, one
part at a time, and each backward pass starts from that gradient. By the chain rule the sum is the whole batch's
gradient; the two passes see the same noise, since that is a function of counters. The technique is gradient caching
(Gao et al., arXiv 2101.06983). A loss that is linear in the outputs, with factors that the batch alone decides, needs
no first pass, and a step of one part none either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from harness import distributed
from harness.optim import ScaledOptimizer
from tasks.common.step_loss import Outputs

Noise = Callable[[int], AbstractContextManager]  # of a part's number: its noise, for a forward and a backward pass
Losses = dict[str, Tensor]


def backward_by_parts(
    model: nn.Module, parts: Iterator[Any], optimizer: ScaledOptimizer, *, count: int, noise: Noise
) -> Losses:
    """Add up the gradients of a loss that is a mean over `count` parts; returns the losses for the log."""
    task_model = getattr(model, "module", model)
    means: Losses = {}
    for number, part in enumerate(parts):
        with noise(number), distributed.averaging(model, now=number == count - 1):
            with optimizer.autocast():
                losses = model(**task_model.data_preprocessor(part, training=True), mode="loss")
            loss, values = task_model.parse_losses(losses)
            optimizer.backward(loss / count)
        for name, value in values.items():
            means[name] = means.get(name, 0) + value.detach() / count
    return means


def backward_on_all(model: nn.Module, parts: Sequence[Any], optimizer: ScaledOptimizer, *, noise: Noise) -> Losses:
    """Add up the gradients of a loss over all parts; returns the loss for the log.

    Args:
        model: implements `StepLoss`, or is the wrapper of several processes around one that does.
        parts: this process's batches, as the loader gives them; all of them are held at once.
    """
    task_model = getattr(model, "module", model)
    if len(parts) == 1:
        with noise(0):
            loss = task_model.step_loss([_outputs(model, parts[0], optimizer)])
            optimizer.backward(loss)
        return {"loss": loss.detach()}
    gradients, loss = _gradients(task_model, parts, optimizer, noise=noise)
    linear = 0.0
    for number, part in enumerate(parts):
        with noise(number), distributed.averaging(model, now=number == len(parts) - 1):
            outputs = _outputs(model, part, optimizer)
            share = sum((outputs[name] * gradient).sum() for name, gradient in gradients[number].items())
            optimizer.backward(share)
            linear += share.detach()
    return {"loss": linear if loss is None else loss}


def _gradients(
    model: BaseModel, parts: Sequence[Any], optimizer: ScaledOptimizer, *, noise: Noise
) -> tuple[list[dict[str, Tensor]], Tensor | None]:
    """The gradient of the step's loss at the outputs of each part, and the loss if outputs were computed."""
    found: list[Outputs] = [stand_in for part in parts if (stand_in := model.stand_in(part)) is not None]
    computed = len(found) < len(parts)
    if computed:
        found = []
        for number, part in enumerate(parts):
            with noise(number), torch.no_grad():
                found.append(_outputs(model, part, optimizer))
    leaves = [
        {name: value.detach().requires_grad_(value.is_floating_point()) for name, value in outputs.items()}
        for outputs in found
    ]
    loss = model.step_loss(leaves)
    loss.backward()
    gradients = [{name: leaf.grad for name, leaf in outputs.items() if leaf.grad is not None} for outputs in leaves]
    return gradients, loss.detach() if computed else None


def _outputs(model: nn.Module, part: Mapping[str, Any], optimizer: ScaledOptimizer) -> Outputs:
    preprocessor = getattr(model, "module", model).data_preprocessor
    with optimizer.autocast():
        return model(**preprocessor(part, training=True), mode="outputs")
