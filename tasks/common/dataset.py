"""Base class of the data sets of tasks with text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor
from torch.utils.data import Dataset

from tasks.adapter import Sample
from tasks.common.images import open_image
from tasks.common.text import TextField


class SampleDataset(Dataset):
    """An item per sample. Subclasses make it: `__getitem__`, and `collate` for a batch.

    Args:
        root: image paths are relative to it.
        transform: image -> float [3, size, size].
        remembered: how many prepared images are kept for the samples that come next. Neighbours in a split often
            share their images: 447,793 test questions are about 81,434. Only for a deterministic transform.
    """

    def __init__(
        self, samples: Sequence[Sample], *, root: Path, transform: Callable, text: TextField, remembered: int = 0
    ) -> None:
        self.samples = samples
        self._root = root
        self._transform = transform
        self.text = text
        self._remembered = remembered
        self._recent: dict[str, Tensor] = {}  # the last used comes last

    def __len__(self) -> int:
        return len(self.samples)

    def image(self, path: str) -> Tensor:
        """float [3, size, size].

        Raises:
            InputError: the image is absent or cannot be read.
        """
        image = self._recent.pop(path, None)
        if image is None:
            image = self._transform(open_image(self._root / path))
        if self._remembered:
            self._recent[path] = image
            if len(self._recent) > self._remembered:
                del self._recent[next(iter(self._recent))]
        return image
