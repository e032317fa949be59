"""Images with questions, as the model takes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from tasks.adapter import Sample
from tasks.images import open_image
from tasks.text import TextField, collate
from tasks.vqa_answers import Vocabulary


class QuestionItems(Dataset):
    """Items {"image": float [3, size, size], "text": int64 [length]}, and "target": float [answers] for training.

    Args:
        vocabulary: for training, whose samples know what each answer is worth; None without targets.
    """

    collate = staticmethod(collate)

    def __init__(
        self,
        samples: Sequence[Sample],
        root: Path,
        *,
        transform: Callable,
        text: TextField,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        self._samples = samples
        self._root = root
        self._transform = transform
        self._text = text
        self._vocabulary = vocabulary

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        sample = self._samples[index]
        item = {
            "image": self._transform(open_image(self._root / sample.inputs["image"])),
            "text": self._text(sample.inputs["text"], of=f"question {sample.id}"),
        }
        if self._vocabulary is not None:
            item["target"] = _dense(sample.annotation["targets"], self._vocabulary)
        return item


def _dense(targets: dict[str, float], vocabulary: Vocabulary) -> Tensor:
    dense = torch.zeros(len(vocabulary.answers))
    for answer, worth in targets.items():
        dense[vocabulary.ids[answer]] = worth
    return dense
