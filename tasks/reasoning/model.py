"""Visual reasoning: one sentence about two images."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from torch import Tensor, nn

from tasks.common.heads import in_float32, initialise

HEAD_INIT_SCALE = 0.001


class ReasoningHead(nn.Module):
    """LayerNorm, Linear, LayerNorm, GELU, Linear: [batch, 4 × dim] -> [batch, 2]."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(4 * dim)  # eps 1e-5
        self.dense1 = nn.Linear(4 * dim, 2 * dim)
        self.norm2 = nn.LayerNorm(2 * dim)
        self.dense2 = nn.Linear(2 * dim, 2)
        initialise(self.dense1, self.dense2, scale=HEAD_INIT_SCALE)

    def forward(self, features: Tensor) -> Tensor:
        return self.dense2(F.gelu(self.norm2(self.dense1(self.norm1(features)))))


class Reasoner(BaseModel):
    """Backbone and `head`, under the official key names (unilm beit3/modeling_finetune.py).

    Each image is encoded with the sentence; the class token and the sentence's first token of both pairs are
    classified together. Class 1 is "True".
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.beit3 = backbone
        self.head = ReasoningHead(backbone.dim)

    def forward(
        self,
        image_a: Tensor,
        image_b: Tensor,
        text: Tensor,
        text_padding: Tensor | None = None,
        label: Tensor | None = None,
        mode: str = "tensor",
    ) -> Tensor | dict[str, Tensor] | list[dict[str, Any]]:
        """Float32 logits [batch, 2], the loss, or one record per sample.

        Args:
            image_a, image_b: float [batch, 3, size, size], the left and the right image.
            text: int64 [batch, length]; text_padding: [batch, length], 1 = padding.
            label: int64 [batch], 1 = the sentence is true.
        """
        logits = self._logits(image_a, image_b, text, text_padding)
        if mode == "loss":
            return {"loss": F.cross_entropy(logits, label)}
        return logits if mode == "tensor" else self._records(logits)

    def _logits(self, image_a: Tensor, image_b: Tensor, text: Tensor, text_padding: Tensor | None) -> Tensor:
        both = torch.cat([image_a, image_b])
        padding = None if text_padding is None else torch.cat([text_padding, text_padding])
        encoded = self.beit3(both, torch.cat([text, text]), text_padding=padding)
        pairs = torch.cat([encoded.image[:, 0], encoded.text[:, 0]], dim=-1)
        return in_float32(self.head, torch.cat(pairs.chunk(2), dim=-1))

    def _records(self, logits: Tensor) -> list[dict[str, Any]]:
        margins = (logits[:, 1] - logits[:, 0]).tolist()
        return [{"label": int(margin > 0), "margin": round(margin, 6)} for margin in margins]
