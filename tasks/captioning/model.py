"""Captioning: words are masked and predicted under a one-way mask, and captions are searched word by word.

Source: unilm beit3/modeling_finetune.py (BEiT3ForCaptioning) and utils.py (BertCaptioningLoss).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from torch import Tensor, nn

from backbones.linear import Linear
from tasks.captioning.beam_search import BeamSearch, Decoder, one_way_mask
from tasks.common import step_loss
from tasks.common.heads import in_float32, initialise
from tasks.common.step_loss import Outputs


@dataclass(frozen=True, kw_only=True)
class CaptioningLoss:
    """Cross-entropy against smoothed targets; later in training the worst predicted tokens do not count.

    The official training (unilm beit3, 8 GPUs with 32 samples each) averages over the masked tokens of a GPU, leaves
    out the worst of them, and then averages over GPUs. So does this loss with groups of 32 samples of the step's batch,
    in the batch's order, whatever micro-batches and processes compute them.

    smoothing: probability that the target leaves to all other tokens together.
    drop_worst: share of the tokens of a group to leave out, those of the largest loss.
    drop_worst_after: the optimizer step after which they are left out.
    group: samples whose tokens are averaged together.
    """

    smoothing: float = 0.1
    drop_worst: float = 0.2
    drop_worst_after: int = 12_000
    group: int = 32

    def of_tokens(self, logits: Tensor, target: Tensor) -> Tensor:
        """Kullback-Leibler divergences from the smoothed targets: float32 [tokens].

        Args:
            logits: float32 [tokens, vocabulary].
            target: int64 [tokens].
        """
        others = logits.shape[1] - 1
        smooth = torch.full_like(logits, self.smoothing / others)
        smooth.scatter_(1, target[:, None], 1 - self.smoothing)
        return F.kl_div(logits.log_softmax(1), smooth, reduction="none").sum(1)

    def drops(self, step: int) -> bool:
        """Decide whether the worst tokens are left out at an optimizer step (from 0)."""
        return self.drop_worst > 0 and step > self.drop_worst_after

    def factors(self, losses: Tensor, masked: Tensor, *, step: int) -> Tensor:
        """Factor of each token's loss in the step's loss: float32 [batch, length], summing to 1.

        The mean over groups of the means over a group's tokens; a smaller last group counts by its samples.

        Args:
            losses: [batch, length] of the whole step.
            masked: bool [batch, length], the tokens that have a loss.
        """
        factors = []
        for group_losses, group_masked in zip(losses.split(self.group), masked.split(self.group), strict=True):
            kept = group_masked
            if self.drops(step):
                values = group_losses[group_masked]
                count = max(int(len(values) * (1 - self.drop_worst)), 1)
                stays = torch.zeros_like(values, dtype=torch.bool)
                stays[values.argsort(stable=True)[:count]] = True
                kept = torch.zeros_like(group_masked).masked_scatter(group_masked, stays)
            factors.append(kept / kept.sum() * (len(kept) / len(masked)))
        return torch.cat(factors)


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
        initialise(self.mlm_head)
        self.mask = mask
        self.step = 0  # set by the engine
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
    ) -> Tensor | Outputs | list[dict[str, Any]]:
        """Loss of masked words, their logits, or captions.

        Args:
            image: float [batch, 3, size, size].
            text: int64 [batch, length], `<s>` words `</s>` with words masked.
            text_padding: [batch, length], 1 = padding.
            masked: [batch, length], 1 = to be predicted.
            target: int64 [batch, length], the words before masking.
            mode: "loss"; "outputs" for what `step_loss` needs, "losses" [batch, length] (0 where nothing is masked) and
                "masked"; "tensor" for float32 logits [masked words, vocabulary]; "predict" for one record per image.
        """
        if mode == "predict":
            return [{"caption": self._detokenize(ids)} for ids in self.decode(image).tolist()]
        masked = masked.bool()
        logits = self._logits(image, text, text_padding, masked)
        if mode == "tensor":
            return logits
        tokens = self._loss.of_tokens(logits, target[masked])
        losses = tokens.new_zeros(masked.shape).masked_scatter(masked, tokens)
        outputs = {"losses": losses, "masked": masked}
        return outputs if mode == "outputs" else {"loss": self.step_loss([outputs])}

    def step_loss(self, outputs: Sequence[Outputs]) -> Tensor:
        """The loss over all masked tokens of a step; see `StepLoss` and `CaptioningLoss`."""
        longest = max(each["masked"].shape[1] for each in outputs)
        longest = step_loss.largest(longest, outputs[0]["masked"].device)
        losses, masked = (
            torch.stack([F.pad(each[name], (0, longest - each[name].shape[1])) for each in outputs])
            for name in ("losses", "masked")
        )
        factors = self._loss.factors(step_loss.in_order(losses.detach()), step_loss.in_order(masked), step=self.step)
        own = step_loss.own(factors, micro_batch=losses.shape[1])
        return (losses * own).sum() * step_loss.processes()

    def stand_in(self, batch: Mapping[str, Any]) -> Outputs | None:
        """Losses of 0 until the worst tokens are left out: until then a token's factor follows from the masks alone."""
        if self._loss.drops(self.step):
            return None
        masked = batch["masked"].bool().to(self.mlm_head.weight.device)
        return {"losses": torch.zeros(masked.shape, device=masked.device), "masked": masked}

    def _logits(self, image: Tensor, text: Tensor, text_padding: Tensor | None, masked: Tensor) -> Tensor:
        blocked = one_way_mask(self.beit3.image_tokens(image), text.shape[1], device=text.device)
        encoded = self.beit3(image, text, text_padding=text_padding, attn_mask=blocked)
        return in_float32(self.mlm_head, encoded.text[masked])

    def decode(self, image: Tensor) -> Tensor:
        """The best caption of each image: int64 [batch, max length], `<s>` words `</s>` and then padding."""
        return Decoder(self.beit3, self.mlm_head, self._search, mask=self.mask)(image)
