"""Records of predicted classes."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def records(logits: Tensor, *, top: int) -> list[dict[str, Any]]:
    """The `top` most probable classes of each image, best first, from float [images, classes]."""
    probability, classes = logits.softmax(-1).topk(top)
    return [
        {"top": ids, "probability": [round(p, 6) for p in values]}
        for ids, values in zip(classes.tolist(), probability.tolist(), strict=True)
    ]
