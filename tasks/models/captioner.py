"""Captioning: words are masked and predicted under a one-way mask, and captions are searched word by word.

Source: unilm beit3/modeling_finetune.py (BEiT3ForCaptioning) and utils.py (BertCaptioningLoss).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from torch import Tensor, nn

from backbones.linear import Linear
from tasks.models.beam_search import BeamSearch, Decoder, one_way_mask


@dataclass(frozen=True, kw_only=True)
class CaptioningLoss:
    """Cross-entropy against smoothed targets; later in training the worst predicted tokens do not count.

    smoothing: probability that the target leaves to all other tokens together.
    drop_worst: share of the tokens of a batch to leave out, those of the largest loss.
    drop_worst_after: the optimizer step after which they are left out.
    """

    smoothing: float = 0.1
    drop_worst: float = 0.2
    drop_worst_after: int = 12_000

    def __call__(self, logits: Tensor, target: Tensor, *, step: int) -> Tensor:
        """Mean of the Kullback-Leibler divergences from the smoothed targets.

        Args:
            logits: [masked tokens, vocabulary].
            target: int64 [masked tokens].
        """
        others = logits.shape[1] - 1
        smooth = torch.full_like(logits, self.smoothing / others, dtype=torch.float32)
        smooth.scatter_(1, target[:, None], 1 - self.smoothing)
        loss = F.kl_div(logits.float().log_softmax(1), smooth, reduction="none").sum(1)
        if self.drop_worst and step > self.drop_worst_after:
            loss = loss.topk(int(len(loss) * (1 - self.drop_worst)), largest=False).values
        return loss.mean()


class Captioner(BaseModel):
    """Backbone and `mlm_head`, under the official key names.

    Args:
        mask: id of `<mask>`.
        detokenize: token ids -> text, for records.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        mask: int,
        detokenize: Callable[[Sequence[int]], str],
        loss: CaptioningLoss,
        search: BeamSearch,
    ) -> None:
        super().__init__()
        self.beit3 = backbone
        self.mlm_head = Linear(backbone.dim, backbone.config.vocab_size)
        nn.init.trunc_normal_(self.mlm_head.weight, std=0.02)
        nn.init.zeros_(self.mlm_head.bias)
        self.mask = mask
        self.step = 0  # told by the engine
        self._detokenize = detokenize
        self._loss = loss
        self._search = search

    def forward(
        self,
        image: Tensor,
        text: Tensor | None = None,
        text_padding: Tensor | None = None,
        masked: Tensor | None = None,
        target: Tensor | None = None,
        mode: str = "tensor",
    ) -> Tensor | dict[str, Tensor] | list[dict[str, Any]]:
        """Loss of masked words, their logits, or captions.

        Args:
            image: float [batch, 3, size, size].
            text: int64 [batch, length], `<s>` words `</s>` with words masked.
            text_padding: [batch, length], 1 = padding.
            masked: [batch, length], 1 = to be predicted.
            target: int64 [batch, length], the words before masking.
            mode: "loss"; "tensor" for logits [masked words, vocabulary]; "predict" for one record per image.
        """
        if mode == "predict":
            return [{"caption": self._detokenize(ids)} for ids in self.decode(image).tolist()]
        logits = self._logits(image, text, text_padding, masked.bool())
        return logits if mode == "tensor" else {"loss": self._loss(logits, target[masked.bool()], step=self.step)}

    def _logits(self, image: Tensor, text: Tensor, text_padding: Tensor | None, masked: Tensor) -> Tensor:
        blocked = one_way_mask(self.beit3.image_tokens(image), text.shape[1], device=text.device)
        encoded = self.beit3(image, text, text_padding=text_padding, attn_mask=blocked)
        return self.mlm_head(encoded.text[masked])

    def decode(self, image: Tensor) -> Tensor:
        """The best caption of each image: int64 [batch, max length], `<s>` words `</s>` and then padding."""
        return Decoder(self.beit3, self.mlm_head, self._search, mask=self.mask)(image)
