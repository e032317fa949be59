"""Attention with a bias, by PyTorch's fused kernels."""

from __future__ import annotations

import contextlib

import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

# Where there is a bias, cuDNN's kernel (the first choice on H100) is left out: its backward pass gives NaN for some
# numbers of keys (pytorch issue 196678), and it has no gradient for the bias.
WITH_BIAS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
    """Weighted means of the values: [batch, heads, queries, head dim] from three such tensors.

    Args:
        bias: added to the scores, broadcastable to [batch, heads, queries, keys], of the query's type; None for none.
    """
    chosen = sdpa_kernel(WITH_BIAS) if bias is not None and query.device.type == "cuda" else contextlib.nullcontext()
    with chosen:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
