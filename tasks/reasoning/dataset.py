"""Pairs of images with a sentence."""

from __future__ import annotations

from typing import Any

from tasks.common.dataset import SampleDataset
from tasks.common.text import collate


class NLVR2Dataset(SampleDataset):
    """Items {"image_a", "image_b": float [3, size, size], "text": int64 [length], "label": int}.

    The two images are augmented independently, as in the official code.
    """

    collate = staticmethod(collate)

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = self.samples[index]
        image_a, image_b = (self.image(path) for path in sample.inputs["images"])
        text = self.text(sample.inputs["text"], of=sample.id)
        return {"image_a": image_a, "image_b": image_b, "text": text, "label": sample.annotation["label"]}
