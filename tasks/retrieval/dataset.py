"""Images and texts as the dual encoder takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tasks.adapter import Sample
from tasks.common.dataset import SampleDataset
from tasks.common.packing import CompactSamples, Which
from tasks.common.text import pad


def pairs(samples: Sequence[Sample]) -> Pairs:
    """Pairs of the texts among samples with their images, which are among them too."""
    images, texts, owners = {}, [], []
    for index, sample in enumerate(samples):
        if "image" in sample.inputs:
            images[sample.id] = index
        else:
            texts.append(index)
            owners.append(sample.annotation["image"])
    return Pairs(samples, np.array(texts, np.int64), np.array([images[owner] for owner in owners], np.int64))


@dataclass(frozen=True, eq=False)
class Pairs(CompactSamples):
    """Texts with the inputs of their images.

    texts, images: int64 [pairs], indices of `samples`.
    """

    samples: Sequence[Sample]
    texts: np.ndarray
    images: np.ndarray

    def __len__(self) -> int:
        return len(self.texts)

    def sample(self, index: int) -> Sample:
        text, image = self.samples[int(self.texts[index])], self.samples[int(self.images[index])]
        return text._replace(inputs=image.inputs | text.inputs)

    def chosen(self, which: Which) -> Pairs:
        return replace(self, texts=self.texts[which], images=self.images[which])


class RetrievalDataset(SampleDataset):
    """An item per sample, whose inputs name an image, a text or, as a pair, both.

    Items have an "image" float [3, size, size], "tokens" int64 [length], or both.
    """

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        sample = self.samples[index]
        item = {}
        if "image" in sample.inputs:
            item["image"] = self.image(sample.inputs["image"])
        if "text" in sample.inputs:
            item["tokens"] = self.text(sample.inputs["text"], of=sample.id)
        return item

    def collate(self, batch: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """A batch: `image` when it has images, `text` (and `text_padding`, see `pad`) when it has texts.

        Raises:
            ValueError: a text comes before an image, so the model's records would not be in order.
        """
        has_image = ["image" in item for item in batch]
        if has_image != sorted(has_image, reverse=True):
            raise ValueError("The images of a batch must come before its texts.")
        images = [item["image"] for item in batch if "image" in item]
        texts = [item["tokens"] for item in batch if "tokens" in item]
        return ({"image": torch.stack(images)} if images else {}) | (pad(texts) if texts else {})
