"""Noise of a training step that does not depend on how its batch is spread over micro-batches and processes.

The engine says with `sharing` which samples of the step's batch are being computed. A draw is then made for the whole
batch, from a generator that is seeded by the step and by what is drawn, and each forward pass keeps the rows of its own
samples. There is no generator state: a layer that is computed again in the backward pass, or in a second forward pass,
draws the same. Without `sharing`, draws come from PyTorch's generator as usual.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Share:
    """The samples of a step's batch that one forward pass computes: `count` from `first` on, of `batch`."""

    seed: tuple[int, ...]  # of the step, the same for all of its samples
    first: int
    count: int
    batch: int

    def words(self, *key: int) -> np.ndarray:
        """Two random words (uint64) for one kind of draw, the same for all samples of the step."""
        return np.random.SeedSequence((*self.seed, *key)).generate_state(2, np.uint64)


_share: Share | None = None


def current() -> Share | None:
    """The share that is being computed, None outside of `sharing`."""
    return _share


@contextmanager
def sharing(share: Share) -> Iterator[None]:
    """Compute a share; the backward pass belongs inside too, since it may compute layers again."""
    global _share
    before, _share = _share, share
    try:
        yield
    finally:
        _share = before


def kept(update: Tensor, rate: float, *, key: tuple[int, ...]) -> Tensor:
    """Stochastic depth's factor of each row: 0 with probability `rate`, else 1 / (1 - rate).

    Args:
        update: [rows, …]; rows are the samples of the share, or several times these (image a of all, image b of all).
        key: distinguishes this draw from the others of a step.

    Returns:
        [rows, 1, …], of the type and on the device of `update`.

    Raises:
        ValueError: the rows are no multiple of the share's samples.
    """
    rows, share = len(update), _share
    shape = (rows, *[1] * (update.ndim - 1))
    if share is None:
        drawn = update.new_empty(shape).bernoulli_(1 - rate)
    else:
        times, rest = divmod(rows, share.count)
        if rest:
            raise ValueError(f"{rows} rows are no multiple of the {share.count} samples of the share.")
        generator = torch.Generator(update.device).manual_seed(int(share.words(*key)[0] >> 1))
        drawn = torch.empty(times, share.batch, device=update.device).bernoulli_(1 - rate, generator=generator)
        drawn = drawn[:, share.first : share.first + share.count].reshape(shape).to(update.dtype)
    return drawn.div_(1 - rate)


class DropPath(nn.Module):
    """Stochastic depth as a module: [rows, …] -> the same, whole rows dropped in training.

    Args:
        key: see `kept`.
    """

    def __init__(self, rate: float, *, key: tuple[int, ...]) -> None:
        super().__init__()
        self.rate = rate
        self.key = key

    def forward(self, update: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return update
        return update * kept(update, self.rate, key=self.key)
