"""Initial weights and precision of the heads on top of a backbone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from backbones.errors import InputError

INIT_STD = 0.02


@torch.no_grad()
def initialise(*layers: nn.Linear, scale: float = 1.0) -> None:
    """Normal weights of std 0.02, cut at one std (which leaves a std of 0.0108) and times `scale`; biases 0.

    Source: unilm beit3/modeling_utils.py, whose trunc_normal_ cuts at ±std.
    """
    for layer in layers:
        nn.init.trunc_normal_(layer.weight, std=INIT_STD, a=-INIT_STD, b=INIT_STD)
        layer.weight.mul_(scale)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def in_float32(head: Callable[[Tensor], Tensor], features: Tensor) -> Tensor:
    """head(features) in float32 whatever the precision around it.

    What a head returns is compared or summed: bfloat16 has steps of 1/16 between 8 and 16, which decides ranks.

    Raises:
        InputError: in prediction, features that are not finite: they would be ranked all the same.
    """
    if not torch.is_grad_enabled() and not features.isfinite().all():
        raise InputError(
            "The backbone's features are not finite: its weights have diverged, or its activations are too large for "
            "float16. Predict with --set precision=fp32; where that says the same, use other weights."
        )
    with torch.autocast(features.device.type, enabled=False):
        return head(features.float())
