"""Gradient caching in every precision; whole trainings are compared in tests/tasks/test_placement.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from backbones.noise import Share, sharing
from harness.optim import ScaledOptimizer
from harness.passes import backward_on_all
from tasks.retrieval.model import DualEncoder
from tests.backbones.test_multiway import SMALL, pair, small

PAIRS = 8


def gradients(*, parts: int, precision: str, apart: bool = False) -> dict[str, Tensor]:
    """Of a step of stochastic gradient descent, by parameter; `apart`: each part's own loss, wrongly."""
    torch.manual_seed(0)
    model = DualEncoder(small(dataclasses.replace(SMALL, drop_path=0.5))).train()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = ScaledOptimizer(
        torch.optim.SGD(model.parameters(), lr=1.0), precision=precision, device=torch.device("cpu")
    )

    @contextmanager
    def noise(part: int) -> Iterator[None]:
        with sharing(Share(seed=(0, 0), first=part * PAIRS // parts, count=PAIRS // parts, batch=PAIRS)):
            yield

    images, texts = pair(PAIRS)
    batches = [
        {"image": image, "text": text} for image, text in zip(images.chunk(parts), texts.chunk(parts), strict=True)
    ]
    backward_on_all(model, batches[:1] if apart else batches, optimizer, noise=noise)
    optimizer.step()
    return {name: before[name] - parameter.detach() for name, parameter in model.named_parameters()}


def distance(one: dict[str, Tensor], two: dict[str, Tensor]) -> float:
    """Norm of the difference, as a share of the norm."""
    difference = sum((tensor - two[name]).square().sum() for name, tensor in one.items())
    return (difference / sum(tensor.square().sum() for tensor in one.values())).sqrt().item()


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 2e-2), ("fp16", 3e-3)])
def test_parts_have_the_gradient_of_the_whole_batch(precision: str, tolerance: float) -> None:
    """Half precision adds its own rounding of each part's gradient, and no more."""
    whole = gradients(parts=1, precision=precision)
    assert distance(whole, gradients(parts=4, precision=precision)) < tolerance
    assert distance(whole, gradients(parts=4, precision=precision, apart=True)) > 0.2
    assert whole["logit_scale"].abs() > 1e-4
