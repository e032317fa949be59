"""Keys and values of earlier tokens, so that decoding computes each token once."""

from __future__ import annotations

from torch import Tensor


class KeyValueCache:
    """Per layer the keys and values [batch, heads, tokens, head dim] of everything encoded so far.

    The memory of `capacity` tokens is taken at once: a step then copies its own tokens only, not those of the image.
    For inference: tensors are written in place.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.pair = False  # an image is in it, so that later text belongs to an image-text pair
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}
        self._lengths: dict[int, int] = {}

    def __len__(self) -> int:
        """Cached tokens."""
        return self._lengths.get(0, 0)

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add this call's tokens to a layer and return all of its keys and values.

        Args:
            key, value: [batch, heads, new tokens, head dim].

        Returns:
            [batch, heads, all tokens, head dim] each.

        Raises:
            ValueError: more tokens than the capacity.
        """
        first = self._lengths.get(layer, 0)
        end = first + key.shape[2]
        if end > self.capacity:
            raise ValueError(f"The cache is for {self.capacity} tokens; {end} are too many.")
        if layer not in self._layers:
            shape = (*key.shape[:2], self.capacity, key.shape[3])
            self._layers[layer] = (key.new_empty(shape), value.new_empty(shape))
        keys, values = self._layers[layer]
        keys[:, :, first:end] = key
        values[:, :, first:end] = value
        self._lengths[layer] = end
        return keys[:, :, :end], values[:, :, :end]

    def truncate(self, length: int) -> None:
        """Forget all but the first `length` tokens."""
        self._lengths = {layer: min(length, tokens) for layer, tokens in self._lengths.items()}
