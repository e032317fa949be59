"""Keys and values of earlier tokens, so that decoding computes each token once."""

from __future__ import annotations

import torch
from torch import Tensor


class KeyValueCache:
    """Per layer the keys and values [batch, heads, tokens, head dim] of everything encoded so far."""

    def __init__(self) -> None:
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}

    def __len__(self) -> int:
        """Cached tokens."""
        return self._layers[0][0].shape[2] if self._layers else 0

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add this call's tokens to a layer and return all of its keys and values."""
        if layer in self._layers:
            old_key, old_value = self._layers[layer]
            key = torch.cat([old_key, key], dim=2)
            value = torch.cat([old_value, value], dim=2)
        self._layers[layer] = (key, value)
        return key, value

    def truncate(self, length: int) -> None:
        """Forget all but the first `length` tokens."""
        self._layers = {i: (key[:, :, :length], value[:, :, :length]) for i, (key, value) in self._layers.items()}

    def select(self, rows: Tensor) -> None:
        """Keep and reorder batch rows (int64 [new batch]): the survivors of a beam search."""
        self._layers = {i: (key[rows], value[rows]) for i, (key, value) in self._layers.items()}
