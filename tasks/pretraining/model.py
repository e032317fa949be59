"""Masked data modelling: one backbone predicts masked patches and masked tokens of images, texts and pairs.

Source: "Image as a Foreign Language" (arXiv 2208.10442), section 2.2. Every step has a batch of each kind of data; the
loss is the sum of up to four means: over the masked patches of images, the masked tokens of texts, and the masked
patches and tokens of pairs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from torch import Tensor, nn

from tasks.common.heads import initialise
from tasks.common.step_loss import Outputs, processes, summed
from tasks.pretraining.targets import ImageTarget, normalised

OBJECTIVES = ("image", "text", "pair_image", "pair_text")

Batch = Mapping[str, Tensor]


class MaskedDataModel(BaseModel):
    """Backbone (as `beit3`), `mlm_head` and `mim_head`, under the official key names.

    The loss is a mean over all masked tokens of an optimizer step, whatever micro-batches and processes compute them:
    see `StepLoss`.

    Args:
        target: what is predicted of masked patches. It is not part of the model's state and stays as it is.
    """

    def __init__(self, backbone: nn.Module, target: ImageTarget) -> None:
        super().__init__()
        self.beit3 = backbone
        self.mlm_head = nn.Linear(backbone.dim, backbone.config.vocab_size)
        self.mim_head = nn.Linear(backbone.dim, target.outputs)
        initialise(self.mlm_head, self.mim_head)
        # In a tuple it is not a submodule: neither saved, nor trained, nor set to training.
        self._targets = (target.eval().requires_grad_(False),)
        self.register_buffer("_sums", torch.zeros(len(OBJECTIVES), 3, dtype=torch.float64), persistent=False)

    @property
    def target(self) -> ImageTarget:
        """Target that masked patches are predicted as."""
        return self._targets[0]

    def _apply(self, function: Any, recurse: bool = True) -> MaskedDataModel:
        self.target._apply(function, recurse)
        return super()._apply(function, recurse)

    def forward(
        self,
        images: Batch | None = None,
        texts: Batch | None = None,
        pairs: Batch | None = None,
        mode: str = "outputs",
    ) -> Outputs | dict[str, Tensor]:
        """Losses of a batch of each kind; a kind that is not trained on is left out.

        Args:
            images: `pixels` uint8 [images, 3, size, size]; `masked_patches` bool [images, patches]; and `view`, pixels
                of the same crop in the size that the target needs, where that is another.
            texts: `text` int64 [texts, length] with masked tokens replaced; `target` int64, the same without; and
                `masked_tokens` bool, where they are.
            pairs: all of these, and `text_padding` bool [pairs, length], true = padding, where there is some.
            mode: "outputs" gives the sums of losses and the numbers of masked tokens that `step_loss` needs; "loss"
                the loss over this batch alone.
        """
        outputs: dict[str, Tensor] = {}
        if images is not None:
            outputs |= self._image_outputs("image", self._encoded(images).image, images)
        if texts is not None:
            outputs |= self._text_outputs("text", self._encoded(texts).text, texts)
        if pairs is not None:
            encoded = self._encoded(pairs)
            outputs |= self._image_outputs("pair_image", encoded.image, pairs)
            outputs |= self._text_outputs("pair_text", encoded.text, pairs)
        return outputs if mode == "outputs" else {"loss": self.step_loss([outputs])}

    def step_loss(self, outputs: Sequence[Outputs]) -> Tensor:
        """The sum over objectives of the mean loss of a step's masked tokens; see `StepLoss`."""
        names = [name for name in OBJECTIVES if name in outputs[0]]
        sums = torch.stack([sum(part[name] for part in outputs) for name in names])
        counts = torch.stack([sum(part[f"{name}_count"] for part in outputs) for name in names])
        return (sums / summed(counts).clamp(min=1)).sum() * processes()

    def stand_in(self, batch: Mapping[str, Batch]) -> Outputs:
        """Losses of 0 with the right counts: the loss is linear in them, and the masks alone decide the factors."""
        where = self.mlm_head.weight.device
        outputs: dict[str, Tensor] = {}
        for kind, objective in (
            ("images", "image"),
            ("texts", "text"),
            ("pairs", "pair_image"),
            ("pairs", "pair_text"),
        ):
            if kind in batch:
                masked = batch[kind]["masked_tokens" if objective.endswith("text") else "masked_patches"]
                outputs |= {objective: torch.zeros((), device=where), f"{objective}_count": masked.sum().to(where)}
        return outputs

    def figures(self) -> dict[str, float]:
        """Mean loss and accuracy of each objective since the last call, over all processes; every process has to ask.

        By name, such as `text_loss` and `text_accuracy` (0 to 1); without those that nothing was masked for, and
        without the accuracy of targets that have none.
        """
        found = {}
        for name, (loss, hits, count) in zip(OBJECTIVES, summed(self._sums).tolist(), strict=True):
            if count:
                found[f"{name}_loss"] = loss / count
                if not math.isnan(hits):
                    found[f"{name}_accuracy"] = hits / count
        self._sums.zero_()
        return found

    def _encoded(self, batch: Batch) -> Any:
        """The backbone's `Encoded` of one kind of data."""
        return self.beit3(
            image=normalised(batch["pixels"]) if "pixels" in batch else None,
            text=batch.get("text"),
            text_padding=batch.get("text_padding"),
            vision_masked=batch.get("masked_patches"),
        )

    def _image_outputs(self, name: str, tokens: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Args: tokens: [images, 1 + patches, dim], the class token first."""
        masked = batch["masked_patches"].bool()
        predicted = self.mim_head(tokens[:, 1:][masked])
        with torch.no_grad():
            target = self.target(batch.get("view", batch["pixels"]))[masked]
            hits = self.target.hits(predicted, target)
        return self._outputs(name, self.target.losses(predicted, target), hits)

    def _text_outputs(self, name: str, tokens: Tensor, batch: Batch) -> dict[str, Tensor]:
        masked = batch["masked_tokens"].bool()
        predicted, target = self.mlm_head(tokens[masked]), batch["target"][masked]
        losses = F.cross_entropy(predicted.float(), target, reduction="none")
        return self._outputs(name, losses, (predicted.argmax(-1) == target).sum())

    def _outputs(self, name: str, losses: Tensor, hits: Tensor | None) -> dict[str, Tensor]:
        """Sum and count of an objective's losses, which are added to the figures."""
        total, count = losses.sum(), torch.tensor(len(losses), device=losses.device)
        with torch.no_grad():
            right = torch.full_like(total, math.nan) if hits is None else hits
            self._sums[OBJECTIVES.index(name)] += torch.stack([total.double(), right.double(), count.double()])
        return {name: total, f"{name}_count": count}
