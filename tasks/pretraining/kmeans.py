"""Clusters of directions: k-means on vectors of length 1, by cosine similarity."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 1 << 14  # vectors compared with all centres at once


def nearest(vectors: Tensor, centres: Tensor) -> Tensor:
    """The centre of the largest dot product with each vector, in float32 whatever the precision around it.

    Args:
        vectors: [vectors, dim].
        centres: [centres, dim].

    Returns:
        int64 [vectors].
    """
    with torch.autocast(vectors.device.type, enabled=False):
        columns = centres.float().T
        return torch.cat([(chunk.float() @ columns).argmax(1) for chunk in vectors.split(CHUNK)])


def totals(vectors: Tensor, chosen: Tensor, centres: int) -> tuple[Tensor, Tensor]:
    """Sum and number of the vectors of each centre: float32 [centres, dim] and [centres]."""
    sums = vectors.new_zeros(centres, vectors.shape[1], dtype=torch.float32).index_add_(0, chosen, vectors.float())
    return sums, torch.bincount(chosen, minlength=centres).float()


def spherical_kmeans(
    vectors: Tensor, centres: int, *, iterations: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Centres of length 1 that the vectors are near to, and how many vectors each has.

    They begin with vectors drawn at random. A centre that loses all of its vectors takes one that is far from its own
    centre (ours; the official initialisation of VQ-KD leaves it where it was).

    Args:
        vectors: float32 [vectors, dim] of length 1, at least as many as centres.
        generator: of the CPU, so that every device draws the same.

    Returns:
        float32 [centres, dim] and [centres].
    """
    first = torch.randperm(len(vectors), generator=generator)[:centres]
    found = vectors[first.to(vectors.device)].float()
    for _ in range(iterations):
        chosen = nearest(vectors, found)
        sums, counts = totals(vectors, chosen, centres)
        empty = counts == 0
        if empty.any():
            similarity = (vectors * found[chosen]).sum(1)
            sums[empty] = vectors[similarity.argsort(stable=True)[: int(empty.sum())]].float()
        found = F.normalize(sums, dim=1)
    return found, totals(vectors, nearest(vectors, found), centres)[1]
