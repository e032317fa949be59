"""nn.Linear with a faster path for inference on a CPU.

PyTorch's CPU linear copies the bias into the output before the product, runs GELU as a pass of its own, and has oneDNN
rearrange the weight in every call. oneDNN does the first two inside the product, through the operator that
torch.compile uses for the same purpose (10 to 20 % of a float32 forward), and takes a weight that is arranged already
(5 % of the products of many tokens, up to half of those of few, as in decoding).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PACKED_FOR = 1024  # rows of the input; any number that is not small gives the same layout


class Linear(nn.Linear):
    """The parameters and the mathematics of `nn.Linear`."""

    _packs: dict[torch.dtype, tuple[Tensor, Tensor | None]] | None = None  # weight and bias, while `packed`

    def forward(self, x: Tensor) -> Tensor:
        dtype = self._onednn_dtype(x)
        return super().forward(x) if dtype is None else self._product(x, dtype, "none", "")

    def forward_gelu(self, x: Tensor) -> Tensor:
        """gelu(linear(x)), the exact (erf) GELU."""
        dtype = self._onednn_dtype(x)
        return F.gelu(super().forward(x)) if dtype is None else self._product(x, dtype, "gelu", "none")

    def _product(self, x: Tensor, dtype: torch.dtype, then: str, form: str) -> Tensor:
        weight, bias = self._pack(dtype) if self._packs is not None else (self.weight, self.bias)
        return torch.ops.mkldnn._linear_pointwise(x.to(dtype), weight, bias, then, [], form)

    def _pack(self, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        if dtype not in self._packs:
            weight = torch.ops.mkldnn._reorder_linear_weight(self.weight.detach().to(dtype), PACKED_FOR)
            self._packs[dtype] = (weight, None if self.bias is None else self.bias.detach().to(dtype))
        return self._packs[dtype]

    def _onednn_dtype(self, x: Tensor) -> torch.dtype | None:
        """The dtype in which oneDNN computes this product; None where PyTorch's own linear has to."""
        if x.device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return None
        dtype = x.dtype
        if torch.is_autocast_enabled("cpu"):
            if self._packs is None:
                return None  # autocast keeps the weights that it has cast, this path would cast them in every call
            dtype = torch.get_autocast_dtype("cpu")
        elif dtype != self.weight.dtype:
            return None
        return dtype if _onednn_has(dtype) else None


def for_products(x: Tensor) -> Tensor:
    """The input of several linear layers in the type that autocast gives their products: cast once instead of by each.

    Only where no gradients are computed: those of the layers are added up in float32 when each has its own cast.
    """
    return x if torch.is_grad_enabled() else x.to(product_dtype(x))


def product_dtype(x: Tensor) -> torch.dtype:
    """The type in which a linear layer computes with x: autocast's, or that of x."""
    where = x.device.type
    casts = torch.amp.is_autocast_available(where) and torch.is_autocast_enabled(where)
    return torch.get_autocast_dtype(where) if casts else x.dtype


def _onednn_has(dtype: torch.dtype) -> bool:
    if not torch.backends.mkldnn.is_available():
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


@contextmanager
def packed(model: nn.Module) -> Iterator[None]:
    """Inference on a CPU with weights that oneDNN has arranged once.

    Every `Linear` of the model keeps a second copy of its weight from its first use in here to the end, in the type
    that it computes in (under autocast, autocast's). So the weights must not change in here. On other devices, and
    where gradients are computed, everything is as without.
    """
    linears = [module for module in model.modules() if isinstance(module, Linear)]
    for linear in linears:
        linear._packs = {}
    try:
        yield
    finally:
        for linear in linears:
            linear._packs = None
