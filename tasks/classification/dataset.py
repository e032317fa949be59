"""Images with their classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset, default_collate

from tasks.adapter import Sample
from tasks.common.images import open_image
from tasks.common.text import collate


class ClassificationDataset(Dataset):
    """Items {"image": float [3, size, size], "label": int}.

    Args:
        samples: an image path each, with a label.
        root: the paths are relative to it.
        transform: image -> float [3, size, size].
        names: token ids of each class's text, for items with the "text" of their class.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        *,
        root: Path,
        transform: Callable,
        names: Sequence[Tensor] | None = None,
    ) -> None:
        self._samples = samples
        self._root = root
        self._transform = transform
        self._names = names

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = self._samples[index]
        label = sample.annotation["label"]
        item = {"image": self._transform(open_image(self._root / sample.inputs)), "label": label}
        return item if self._names is None else item | {"text": self._names[label]}

    @staticmethod
    def collate(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """A batch, its texts padded to the longest where there are some."""
        return collate(items) if "text" in items[0] else default_collate(items)
