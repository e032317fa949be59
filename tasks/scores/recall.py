"""Recall at k of image-text retrieval: the share of queries with a right item among the first k.

Karpathy and Fei-Fei (arXiv 1412.2306, section 4.2): an image asks for any of its captions, a caption for its one image,
and the gallery is the whole split.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tasks.statistics import Measurement, mean

CUTOFFS = (1, 5, 10)
BLOCK = 512  # texts at once: with 5,000 images 20 MB of scores


class Ranks(NamedTuple):
    """Place of the first right item of each query, from 0: int64 [images] and [texts]."""

    images: np.ndarray
    texts: np.ndarray


def ranks(images: np.ndarray, texts: np.ndarray, owner: np.ndarray, *, block: int = BLOCK) -> Ranks:
    """Place of the right item that scores best, among all items of the other kind.

    It is the number of items that score strictly higher, so an item that ties with the right one counts as behind
    it: of two images with the same caption, either answer is right.

    A score is the dot product, summed in float64 and rounded to float32. Sums of different order differ in the last
    bits, which the rounding removes: neither the block nor the matrix library moves a rank, and equal features tie.

    Args:
        images: float32 [images, dim].
        texts: float32 [texts, dim].
        owner: int [texts], the row in `images` that a text belongs to; every image owns one text at least.
        block: how many texts are scored at once, which decides the memory: 12 bytes × block × images.
    """
    wide = images.astype(np.float64).T
    right = np.einsum("td,td->t", texts, images[owner], dtype=np.float64).astype(np.float32)
    best = np.full(len(images), -np.inf, np.float32)
    np.maximum.at(best, owner, right)
    image_ranks = np.zeros(len(images), np.int64)
    text_ranks = np.empty(len(texts), np.int64)
    for first in range(0, len(texts), block):
        part = slice(first, first + block)
        scores = (texts[part].astype(np.float64) @ wide).astype(np.float32)
        # The very numbers that the others are compared with.
        scores[np.arange(len(scores)), owner[part]] = right[part]
        image_ranks += (scores > best).sum(0)
        text_ranks[part] = (scores > right[part, None]).sum(1)
    return Ranks(image_ranks, text_ranks)


def measurements(found: Ranks, owner: np.ndarray) -> list[Measurement]:
    """i2t_R1 … t2i_R10, `mean_R1` of both directions and `mean_recall` of all six.

    The unit is an image with its texts, for both directions.
    """
    single = [
        *[mean(f"i2t_R{k}", found.images < k, units=np.arange(len(found.images))) for k in CUTOFFS],
        *[mean(f"t2i_R{k}", found.texts < k, units=owner) for k in CUTOFFS],
    ]
    first_of_each = [single[0], single[len(CUTOFFS)]]
    return [_average("mean_R1", first_of_each), *single, _average("mean_recall", single)]


def _average(metric: str, parts: Sequence[Measurement]) -> Measurement:
    def statistic(weights: np.ndarray) -> float:
        return float(np.mean([part.statistic(weights) for part in parts]))

    queries = parts[0].samples + parts[-1].samples
    return Measurement(metric, queries, parts[0].units, statistic)
