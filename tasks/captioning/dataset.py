"""Images with their captions, some of whose words are masked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import default_collate

from backbones.tokenizer import UNK
from tasks.adapter import Sample
from tasks.common.dataset import SampleDataset
from tasks.common.text import pad


class CaptionDataset(SampleDataset):
    """Items {"image": float [3, size, size], "text", "target": int64 [length], "masked": bool [length]}.

    text: `<s>` words `</s>` with words masked; target: the same without masks.

    Args:
        mask_probability: share of the tokens that are masked.
    """

    def __init__(self, samples: Sequence[Sample], *, mask_probability: float, **options: Any) -> None:
        super().__init__(samples, **options)
        self._mask_probability = mask_probability

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = self.samples[index]
        target = self.text(sample.inputs["text"], of=sample.id)
        text, masked = corrupted(target, probability=self._mask_probability, mask=self.text.tokenizer.mask)
        return {"image": self.image(sample.inputs["image"]), "text": text, "target": target, "masked": masked}

    @staticmethod
    def collate(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """A batch, padded to its longest text; padding is never masked."""
        images = default_collate([{"image": item["image"]} for item in items])
        target = pad([item["target"] for item in items])["text"]
        masked = pad_sequence([item["masked"] for item in items], batch_first=True, padding_value=False)
        return {**images, **pad([item["text"] for item in items]), "target": target, "masked": masked}


def corrupted(text: Tensor, *, probability: float, mask: int) -> tuple[Tensor, Tensor]:
    """Mask words of a text: the text, int64 [length], and which words have a loss, bool [length].

    Of the n tokens round(n × probability) are chosen, at least one and never `<s>`; of those four in five become
    `<mask>`, one in ten stays, one in ten becomes any token. Source: unilm beit3/datasets.py, CaptioningDataset.
    """
    length = len(text)
    count = max(1, min(int(length * probability + 0.5), length - 1))
    chosen = 1 + np.random.permutation(length - 1)[:count]
    text, masked = text.clone(), torch.zeros(length, dtype=torch.bool)
    for index in chosen:
        masked[index] = True
        draw = np.random.random()
        if draw < 0.8:
            text[index] = mask
        elif draw >= 0.9:
            text[index] = np.random.randint(UNK, mask + 1)
    return text, masked
