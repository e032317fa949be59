"""Figures of a dual encoder in training, on a fixed batch of its pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from backbones.errors import InputError

SIZE = 128  # pairs at most
SEED = 0
FIGURES = ("contrastive_loss", "image_accuracy", "text_accuracy", "scale")


class ContrastiveProbe:
    """Loss and accuracy of the first pairs of `items`, as they are cropped once."""

    def __init__(self, items: Dataset) -> None:
        step = max(1, len(items) // SIZE)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            self._batch = items.collate([items[index] for index in range(0, len(items), step)[:SIZE]])

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> Mapping[str, float]:
        """`FIGURES`; an accuracy (0 to 1) is the share of images, or texts, whose own partner is the nearest."""
        was_training = model.training
        model.eval()
        where = next(model.parameters()).device
        try:
            images, texts = model(**{name: value.to(where) for name, value in self._batch.items()}, mode="tensor")
        except InputError:  # features that are not finite: the engine stops at the next step's loss, and says so
            return dict.fromkeys(FIGURES, math.nan)
        finally:
            model.train(was_training)
        scale = model.logit_scale.exp()
        logits = scale * images @ texts.T
        pairs = torch.arange(len(logits), device=where)
        loss = (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2
        right = [_share(logits.argmax(side) == pairs) for side in (1, 0)]
        return dict(zip(FIGURES, (loss.item(), *right, scale.item()), strict=True))


def _share(right: Tensor) -> float:
    return right.float().mean().item()
