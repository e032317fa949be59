"""Images with their classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from tasks.adapter import Sample
from tasks.common.images import open_image


class ClassificationDataset(Dataset):
    """Items {"image": float [3, size, size], "label": int}.

    Args:
        samples: an image path each, with a label.
        root: the paths are relative to it.
        transform: image -> float [3, size, size].
    """

    def __init__(self, samples: Sequence[Sample], *, root: Path, transform: Callable) -> None:
        self._samples = samples
        self._root = root
        self._transform = transform

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = self._samples[index]
        return {
            "image": self._transform(open_image(self._root / sample.inputs)),
            "label": sample.annotation["label"],
        }
