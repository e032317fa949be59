"""Visual question answering: the class token of image and question, a pooler, a two-layer head (as official)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from torch import Tensor, nn

from tasks.common.heads import in_float32, initialise


class Pooler(nn.Module):
    """LayerNorm, linear, tanh: [batch, dim] -> [batch, dim]."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)  # eps 1e-5
        self.dense = nn.Linear(dim, dim)

    def forward(self, token: Tensor) -> Tensor:
        return torch.tanh(self.dense(self.norm(token)))


class VisualQuestionAnswering(BaseModel):
    """Backbone, `pooler` and `head`, under the official key names.

    The backbone must come without its final norm.

    Args:
        answers: the texts to choose from, by id.
    """

    def __init__(self, backbone: nn.Module, *, answers: Sequence[str]) -> None:
        super().__init__()
        dim = backbone.dim
        self.answers = answers
        self.beit3 = backbone
        self.pooler = Pooler(dim)
        self.head = nn.Sequential(
            nn.Linear(dim, 2 * dim), nn.LayerNorm(2 * dim), nn.GELU(), nn.Linear(2 * dim, len(answers))
        )
        initialise(self.pooler.dense, self.head[0], self.head[3])

    def forward(
        self,
        image: Tensor,
        text: Tensor,
        text_padding: Tensor | None = None,
        target: Tensor | None = None,
        mode: str = "tensor",
    ) -> Tensor | dict[str, Tensor] | list[dict[str, Any]]:
        """Logits, losses or records.

        Args:
            image: float [batch, 3, size, size].
            text: int64 [batch, length], the question's token ids.
            text_padding: bool or int [batch, length], 1 = padding; None where there is none.
            target: float [batch, answers], soft labels in [0, 1].
            mode: "tensor" for the float32 logits [batch, answers]; "loss"; "predict" for a record per sample.
        """
        token = self.beit3(image, text, text_padding=text_padding).tokens[:, 0]
        logits = in_float32(lambda first: self.head(self.pooler(first)), token)
        if mode == "loss":
            # A sum over answers and a mean over samples, written as the official code has it.
            return {"loss": F.binary_cross_entropy_with_logits(logits, target) * len(self.answers)}
        return logits if mode == "tensor" else self._records(logits)

    def _records(self, logits: Tensor) -> list[dict[str, Any]]:
        best, labels = logits.max(-1)
        return [
            {"answer": self.answers[label], "score": round(probability, 6)}
            for label, probability in zip(labels.tolist(), best.sigmoid().tolist(), strict=True)
        ]
