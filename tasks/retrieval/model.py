"""Images and texts encoded apart and compared by dot product (as in the official code)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.common.dual_encoder import DualFeatures
from tasks.common.step_loss import Outputs, gathered


class DualEncoder(DualFeatures):
    """Two encoders, trained to tell each text's image and each image's text from those of all other pairs."""

    def forward(
        self,
        image: Tensor | None = None,
        text: Tensor | None = None,
        text_padding: Tensor | None = None,
        mode: str = "tensor",
    ) -> tuple[Tensor | None, Tensor | None] | Outputs | list[dict[str, Any]]:
        """Features, loss or records of a batch.

        Args:
            image: float [images, 3, size, size], or None.
            text: int64 [texts, length] token ids, or None.
            text_padding: bool [texts, length], true = padding.
            mode: "tensor" gives float32 features [images, dim] and [texts, dim] (None for what is not given);
                "loss" takes as many images as texts, each the other's pair, and "outputs" what `step_loss` needs of
                them; "predict" gives the images' records, then the texts'.
        """
        images = None if image is None else self.image_features(image)
        texts = None if text is None else self.text_features(text, text_padding)
        if mode in ("loss", "outputs"):
            outputs = {"images": images, "texts": texts, "scale": self.logit_scale.exp()}
            return outputs if mode == "outputs" else {"loss": self.step_loss([outputs])}
        if mode == "tensor":
            return images, texts
        return [
            {"feature": feature}
            for features in (images, texts)
            if features is not None
            for feature in features.cpu().numpy()
        ]

    def step_loss(self, outputs: Sequence[Outputs]) -> Tensor:
        """The contrastive loss over all pairs of a step; see `StepLoss`."""
        images, texts = (torch.cat([each[side] for each in outputs]) for side in ("images", "texts"))
        return contrastive_loss(images, texts, torch.stack([each["scale"] for each in outputs]).mean())

    def stand_in(self, batch: Mapping[str, Any]) -> None:
        """None: the loss compares features."""


def contrastive_loss(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    """CLIP's loss (arXiv 2103.00020, Figure 3) over the batches of all processes together.

    Every process computes the whole loss, so all have the same value; its gradients, averaged over processes, are
    those of one process with the joint batch.

    Args:
        images: float32 [batch, dim] at length 1.
        texts: float32 [batch, dim], row i the pair of image i.
        scale: what similarities are multiplied with, the inverse of the temperature.
    """
    with torch.autocast(images.device.type, enabled=False):
        logits = scale * gathered(images) @ gathered(texts).T
        pairs = torch.arange(len(logits), device=logits.device)
        return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2
