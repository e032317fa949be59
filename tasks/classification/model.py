"""Image classification: mean of the patch tokens, a LayerNorm, a linear head (as in the official code)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from timm.data import Mixup
from torch import Tensor, nn

from backbones import noise
from tasks.classification.records import records
from tasks.common.heads import in_float32, initialise

HEAD_INIT_SCALE = 0.001


class ImageClassifier(BaseModel):
    """Backbone, `fc_norm` and `head`, under the official key names.

    The parts of the backbone that an image never passes are frozen: they would get no gradient anyway.

    Args:
        mixup: timm's mixup and cutmix over a batch, or None.
        mixup_group: even number of samples of a step's batch that are mixed to the same degree.
        label_smoothing: used without mixup (with it, timm smooths the mixed targets).
        top: how many classes a prediction lists.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        classes: int,
        mixup: Mixup | None = None,
        mixup_group: int = 128,
        label_smoothing: float = 0.0,
        top: int = 5,
    ) -> None:
        super().__init__()
        self.beit3 = backbone
        self.fc_norm = nn.LayerNorm(backbone.dim)  # eps 1e-5
        self.head = nn.Linear(backbone.dim, classes)
        initialise(self.head, scale=HEAD_INIT_SCALE)
        self.mixup = mixup
        self.mixup_group = mixup_group
        self.label_smoothing = label_smoothing
        self.top = min(top, classes)
        backbone.freeze_unused_by_images()

    def forward(
        self, image: Tensor, label: Tensor | None = None, mode: str = "tensor"
    ) -> Tensor | dict[str, Tensor] | list[dict[str, Any]]:
        """image: float [batch, 3, size, size]; label: int64 [batch]. `mode="tensor"` returns the float32 logits."""
        if mode == "loss":
            return {"loss": self._loss(image, label)}
        logits = self._logits(image)
        return logits if mode == "tensor" else records(logits, top=self.top)

    def _logits(self, image: Tensor) -> Tensor:
        tokens = self.beit3(image).tokens[:, self.beit3.prefix_tokens :]
        return in_float32(lambda patches: self.head(self.fc_norm(patches.mean(1))), tokens)

    def _loss(self, image: Tensor, label: Tensor) -> Tensor:
        if self.mixup is None:
            return F.cross_entropy(self._logits(image), label, label_smoothing=self.label_smoothing)
        image, target = self._mixed(image, label)
        return F.cross_entropy(self._logits(image), target)

    def _mixed(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Images and soft targets, each sample mixed with its neighbour in the batch.

        timm mixes a batch with itself backwards; in a shuffled batch any partner is as good, and neighbours are
        together in every micro-batch. The draws (mixup or cutmix, how much, where) are made for each `mixup_group` of
        the step's batch, as the official training makes them for each GPU, from the group's index alone.
        """
        share = noise.current()
        if share is None:
            return _mixed_neighbours(self.mixup, image, label)
        images, targets = [], []
        for group, rows in _groups(share, self.mixup_group):
            np.random.seed(share.words(group).astype(np.uint32))  # timm draws from NumPy's generator
            mixed, target = _mixed_neighbours(self.mixup, image[rows], label[rows])
            images.append(mixed)
            targets.append(target)
        return torch.cat(images), torch.cat(targets)


def _groups(share: noise.Share, size: int) -> Iterator[tuple[int, slice]]:
    """The numbers of the groups that a share has samples of, each with the rows of these in the share."""
    end = share.first + share.count
    for group in range(share.first // size, (end - 1) // size + 1):
        first, last = max(group * size, share.first), min((group + 1) * size, end)
        yield group, slice(first - share.first, last - share.first)


def _mixed_neighbours(mixup: Mixup, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """`mixup` of samples 0 and 1, 2 and 3, … with each other; their number is even."""
    rows = torch.arange(len(image), device=image.device)
    # timm pairs the first with the last, the second with the second to last, …
    order = torch.cat([rows[0::2], rows[1::2].flip(0)])
    mixed, target = mixup(image[order], label[order])
    back = order.argsort()
    return mixed[back], target[back]
