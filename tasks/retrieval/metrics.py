"""Recall at k of image-text retrieval: the share of queries with a right item among the first k.

Karpathy and Fei-Fei (arXiv 1412.2306, section 4.2): an image asks for any of its captions, a caption for its one image,
and the gallery is the whole split.

Items that tie have no order. A query counts by its expected hit over all orders of the tied items, each equally likely
(McSherry and Najork, Computing Information Retrieval Performance Measures Efficiently in the Presence of Tied Scores,
ECIR 2008): what the top k of any implementation gives on average, whichever way it breaks ties.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tasks.bootstrap import Measurement, weighted_sum

CUTOFFS = (1, 5, 10)
BLOCK_TEXTS = 512  # scored at once: with 5,000 images 20 MB of scores


class Places(NamedTuple):
    """Rank of the best right item of each query, with ties: int64 [queries] each."""

    above: np.ndarray  # items that score higher
    tied: np.ndarray  # items with its score, itself included
    right: np.ndarray  # right items among those

    def hits(self, k: int) -> np.ndarray:
        """Probability that a right item is among the first k: float64 [queries].

        The first k have `k - above` ranks for the tied items, which are drawn without replacement: the probability
        that all of them are wrong is hypergeometric.
        """
        ranks = k - self.above  # left for the tied items; negative: none
        miss = np.ones(len(self.above))
        for drawn in range(k):
            wrong = np.maximum(self.tied - self.right - drawn, 0)
            left = np.maximum(self.tied - drawn, 1)
            miss *= np.where(drawn < ranks, wrong / left, 1.0)
        return 1 - miss


class Ranks(NamedTuple):
    """Ranks of the right items of the images' queries and of the texts'."""

    images: Places
    texts: Places


def ranks(images: np.ndarray, texts: np.ndarray, owner: np.ndarray, *, block: int = BLOCK_TEXTS) -> Ranks:
    """Rank of the right item that scores best, among all items of the other kind.

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
    of_images = Places(*(np.zeros(len(images), np.int64) for _ in Places._fields))
    of_texts = Places(*(np.ones(len(texts), np.int64) for _ in Places._fields))  # a text has one right image
    np.add.at(of_images.right, owner, right == best[owner])
    for first in range(0, len(texts), block):
        rows = slice(first, first + block)
        scores = (texts[rows].astype(np.float64) @ wide).astype(np.float32)  # [block, images]
        # The very numbers that the others are compared with.
        scores[np.arange(len(scores)), owner[rows]] = right[rows]
        of_images.above[:] += (scores > best).sum(0)
        of_images.tied[:] += (scores == best).sum(0)
        of_texts.above[rows] = (scores > right[rows, None]).sum(1)
        of_texts.tied[rows] = (scores == right[rows, None]).sum(1)
    return Ranks(of_images, of_texts)


def measure(found: Ranks, owner: np.ndarray) -> list[Measurement]:
    """i2t_R1 … t2i_R10, `mean_R1` of both directions and `mean_recall` of all six.

    The unit is an image with its texts, for both directions.

    Args:
        found: ranks of the right answers.
        owner: int [texts], the image of each text; every image owns one text at least.
    """
    images, texts = len(found.images.above), len(owner)
    of_images = np.stack([found.images.hits(k) for k in CUTOFFS], 1)  # [images, cutoffs]
    of_texts = np.stack([np.bincount(owner, found.texts.hits(k)) for k in CUTOFFS], 1)  # summed over an image's texts
    owned = np.bincount(owner).astype(float)

    def statistic(weights: np.ndarray) -> np.ndarray:
        i2t = 100 * weighted_sum(weights, of_images) / weights.sum()
        t2i = 100 * weighted_sum(weights, of_texts) / weighted_sum(weights, owned)
        recalls = np.concatenate([i2t, t2i])
        return np.array([recalls[:: len(CUTOFFS)].mean(), *recalls, recalls.mean()])

    samples = {
        "mean_R1": images + texts,
        **{f"i2t_R{k}": images for k in CUTOFFS},
        **{f"t2i_R{k}": texts for k in CUTOFFS},
        "mean_recall": images + texts,
    }
    return [
        Measurement(name, count, images, statistic, index=index, proportion=True)
        for index, (name, count) in enumerate(samples.items())
    ]
