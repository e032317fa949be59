"""Image classification: mean of the patch tokens, a LayerNorm, a linear head (as in the official code)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from timm.data import Mixup
from torch import Tensor, nn

HEAD_INIT_SCALE = 0.001


class ImageClassifier(BaseModel):
    """Backbone, `fc_norm` and `head`, under the official key names.

    The parts of the backbone that an image never passes are frozen: they would get no gradient anyway.

    Args:
        mixup: timm's mixup and cutmix over a batch, or None.
        label_smoothing: used without mixup (with it, timm smooths the mixed targets).
        top: how many classes a prediction lists.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        classes: int,
        mixup: Mixup | None = None,
        label_smoothing: float = 0.0,
        top: int = 5,
    ) -> None:
        super().__init__()
        self.beit3 = backbone
        self.fc_norm = nn.LayerNorm(backbone.dim)  # eps 1e-5
        self.head = nn.Linear(backbone.dim, classes)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        with torch.no_grad():
            self.head.weight.mul_(HEAD_INIT_SCALE)
        self.mixup = mixup
        self.label_smoothing = label_smoothing
        self.top = min(top, classes)
        backbone.freeze_unused_by_images()

    def forward(
        self, image: Tensor, label: Tensor | None = None, mode: str = "tensor"
    ) -> Tensor | dict[str, Tensor] | list[dict[str, Any]]:
        """image: float [batch, 3, size, size]; label: int64 [batch]. `mode="tensor"` returns the logits."""
        if mode == "loss":
            return {"loss": self._loss(image, label)}
        logits = self._logits(image)
        return logits if mode == "tensor" else self._records(logits)

    def _logits(self, image: Tensor) -> Tensor:
        tokens = self.beit3(image).tokens[:, self.beit3.prefix_tokens :]
        return self.head(self.fc_norm(tokens.mean(1)))

    def _loss(self, image: Tensor, label: Tensor) -> Tensor:
        if self.mixup is None:
            return F.cross_entropy(self._logits(image).float(), label, label_smoothing=self.label_smoothing)
        image, target = self.mixup(image, label)
        return F.cross_entropy(self._logits(image).float(), target)

    def _records(self, logits: Tensor) -> list[dict[str, Any]]:
        probability, classes = logits.float().softmax(-1).topk(self.top)
        return [
            {"top": ids, "probability": [round(p, 6) for p in values]}
            for ids, values in zip(classes.tolist(), probability.tolist(), strict=True)
        ]
