"""Images and texts encoded apart, to features of length 1."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from torch import Tensor, nn

from tasks.common.heads import in_float32, initialise

TEMPERATURE = 0.07  # at the start; CLIP, arXiv 2103.00020, section 2.5


class DualFeatures(BaseModel):
    """Backbone, `vision_head`, `language_head` and `logit_scale`, under the official key names.

    A feature is the first token after the final norm, through a linear layer without bias, at length 1. Heads compute
    in float32 whatever the precision: bfloat16 would round away differences that decide a rank.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.beit3 = backbone
        self.language_head = nn.Linear(backbone.dim, backbone.dim, bias=False)
        self.vision_head = nn.Linear(backbone.dim, backbone.dim, bias=False)
        initialise(self.language_head, self.vision_head)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / TEMPERATURE)))

    def image_features(self, image: Tensor) -> Tensor:
        """Image float [images, 3, size, size] -> float32 [images, dim]."""
        return self._feature(self.vision_head, image=image)

    def text_features(self, text: Tensor, text_padding: Tensor | None = None) -> Tensor:
        """Token ids int64 [texts, length], and bool, true = padding -> float32 [texts, dim]."""
        return self._feature(self.language_head, text=text, text_padding=text_padding)

    def _feature(self, head: nn.Linear, **inputs: Tensor | None) -> Tensor:
        token = self.beit3(**inputs).tokens[:, 0]
        return in_float32(lambda features: F.normalize(head(features), dim=-1), token)
