"""Two images and a sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from tasks.adapter import Sample
from tasks.images import open_image
from tasks.text import TextField, collate


class StatementItems(Dataset):
    """Items {"image_a", "image_b": float [3, size, size], "text": int64 [length], "label": int}.

    The two images are augmented independently, as in the official code.
    """

    collate = staticmethod(collate)

    def __init__(self, samples: Sequence[Sample], *, root: Path, transform: Callable, text: TextField) -> None:
        self._samples = samples
        self._root = root
        self._transform = transform
        self._text = text

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = self._samples[index]
        image_a, image_b = (self._transform(open_image(self._root / path)) for path in sample.inputs["images"])
        text = self._text(sample.inputs["text"], of=sample.id)
        return {"image_a": image_a, "image_b": image_b, "text": text, "label": sample.annotation["label"]}
