"""Images and texts as the dual encoder takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tasks.items.samples import SampleItems
from tasks.text import pad


class RetrievalItems(SampleItems):
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
            ValueError: a text stands before an image, so the model's records would not be in order.
        """
        has_image = ["image" in item for item in batch]
        if has_image != sorted(has_image, reverse=True):
            raise ValueError("The images of a batch must come before its texts.")
        images = [item["image"] for item in batch if "image" in item]
        texts = [item["tokens"] for item in batch if "tokens" in item]
        return ({"image": torch.stack(images)} if images else {}) | (pad(texts) if texts else {})
