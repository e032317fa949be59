"""Images with questions, and the soft targets of their answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tasks.adapter import Sample
from tasks.common.dataset import SampleDataset
from tasks.common.text import collate
from tasks.vqa.vocabulary import Vocabulary


class VQADataset(SampleDataset):
    """Items {"image": float [3, size, size], "text": int64 [length]}, and "target": float [answers] for training.

    Args:
        vocabulary: used to build dense soft targets for training; None at evaluation.
    """

    collate = staticmethod(collate)

    def __init__(self, samples: Sequence[Sample], *, vocabulary: Vocabulary | None = None, **options: Any) -> None:
        super().__init__(samples, **options)
        self._vocabulary = vocabulary

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        sample = self.samples[index]
        item = {
            "image": self.image(sample.inputs["image"]),
            "text": self.text(sample.inputs["text"], of=f"question {sample.id}"),
        }
        if self._vocabulary is not None:
            item["target"] = _dense(sample.annotation["targets"], self._vocabulary)
        return item


def _dense(targets: dict[str, float], vocabulary: Vocabulary) -> Tensor:
    """Soft targets by answer as float32 [answers]."""
    dense = torch.zeros(len(vocabulary.answers))
    for answer, soft_label in targets.items():
        dense[vocabulary.ids[answer]] = soft_label
    return dense
