"""Image classification as retrieval of class names by two encoders, as in the paper (arXiv 2208.10442, section 3.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.classification.records import records
from tasks.common.dual_encoder import DualFeatures
from tasks.common.step_loss import Outputs, gathered
from tasks.common.text import pad

TEXTS_AT_ONCE = 256


class NameClassifier(DualFeatures):
    """Two encoders; the class of an image is the one whose name has the most similar feature.

    In training an image is told from the names of all classes of its step's batch, each once. In prediction the names
    of all classes are encoded once, each as the mean direction of its prompts.

    Args:
        names: token ids of each class's prompts, [classes][prompts].
        label_smoothing: over the classes of a step.
        top: how many classes a prediction lists.
    """

    def __init__(
        self, backbone: nn.Module, *, names: Sequence[Sequence[Tensor]], label_smoothing: float = 0.0, top: int = 5
    ) -> None:
        super().__init__(backbone)
        self.label_smoothing = label_smoothing
        self.top = min(top, len(names))
        self._names = names
        self._encoded: Tensor | None = None

    def train(self, mode: bool = True) -> NameClassifier:
        """Forget the encoded names, which weights of another step would have encoded otherwise."""
        self._encoded = None
        return super().train(mode)

    def forward(
        self,
        image: Tensor,
        label: Tensor | None = None,
        text: Tensor | None = None,
        text_padding: Tensor | None = None,
        mode: str = "tensor",
    ) -> Tensor | Outputs | list[dict[str, Any]]:
        """Logits, loss or records of a batch.

        Args:
            image: float [batch, 3, size, size].
            label: int64 [batch].
            text: int64 [batch, length], the name of each image's class, and its padding; in training.
            mode: "tensor" gives the float32 logits [batch, classes]; "outputs" what `step_loss` needs, "loss" the loss
                over this batch alone; "predict" a record of each image.
        """
        images = self.image_features(image)
        if mode in ("loss", "outputs"):
            texts = self.text_features(text, text_padding)
            outputs = {"images": images, "texts": texts, "labels": label, "scale": self.logit_scale.exp()}
            return outputs if mode == "outputs" else {"loss": self.step_loss([outputs])}
        logits = self.logit_scale.exp() * images @ self.encoded_names().T
        return logits if mode == "tensor" else records(logits, top=self.top)

    def encoded_names(self) -> Tensor:
        """The feature of each class, float32 [classes, dim]; those of a model in training are not kept."""
        if self._encoded is not None:
            return self._encoded
        prompts = len(self._names[0])
        ids = [prompt for name in self._names for prompt in name]
        device = self.logit_scale.device
        with torch.no_grad():
            parts = [
                self.text_features(
                    **{key: value.to(device) for key, value in pad(ids[at : at + TEXTS_AT_ONCE]).items()}
                )
                for at in range(0, len(ids), TEXTS_AT_ONCE)
            ]
            found = F.normalize(torch.cat(parts).unflatten(0, (-1, prompts)).mean(1), dim=-1)
        if not self.training:
            self._encoded = found
        return found

    def step_loss(self, outputs: Sequence[Outputs]) -> Tensor:
        """Cross-entropy of each image over the names of the step's classes; see `StepLoss`."""
        images, texts, labels = (
            gathered(torch.cat([each[name] for each in outputs])) for name in ("images", "texts", "labels")
        )
        classes, target = labels.unique(return_inverse=True)
        first = torch.full_like(classes, len(labels)).scatter_reduce(
            0, target, torch.arange(len(labels), device=labels.device), "amin"
        )  # where each class is named first
        scale = torch.stack([each["scale"] for each in outputs]).mean()
        with torch.autocast(images.device.type, enabled=False):
            logits = scale * images @ texts[first].T  # [batch, classes of the step]
            return F.cross_entropy(logits, target, label_smoothing=self.label_smoothing)

    def stand_in(self, batch: Mapping[str, Any]) -> None:
        """None: the loss compares features."""
