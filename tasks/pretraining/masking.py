"""Masks of masked data modelling, each a function of a generator that a seed and counters make.

Images lose blocks of patches, as in BEiT (arXiv 2106.08254, Algorithm 1) with the exact count of BEiT v2: 40 % of the
patches in BEiT-3. Texts lose single tokens: 15 % of a text alone, 50 % of a text with an image. Of a pair either the
image or the text is masked ("separate"), or both ("joint"). Source: arXiv 2208.10442, sections 2.2 and 2.3.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from backbones.errors import UsageError
from backbones.tokenizer import BOS, EOS, PAD

ASPECT = (0.3, 1 / 0.3)  # height / width of a block; arXiv 2106.08254, Algorithm 1
TRIES = 10  # at finding a place for a block

UNMASKED = (BOS, PAD, EOS)


def generator(*counters: int) -> np.random.Generator:
    """Random numbers that depend on these counters alone, such as (seed, epoch, sample, kind of draw)."""
    return np.random.default_rng(counters)


@dataclass(frozen=True, kw_only=True)
class BlockMasking:
    """Block-wise masking of the patches of a square image.

    The blocks of BEiT have at least 16 patches, 8 % of its 14 × 14 grid. `smallest` keeps that share on other grids: on
    a 6 × 6 grid, blocks of 16 would leave 42 % of the masks without any block.

    grid: patches along a side.
    ratio: share of the patches that are masked; the count is exact.
    smallest: area of the smallest block, as a share of the grid.

    Raises:
        UsageError: a ratio that masks nothing or everything, or a smallest block larger than what is masked.
    """

    grid: int
    ratio: float
    smallest: float = 0.08

    def __post_init__(self) -> None:
        if not 0 < self.count < self.grid**2:
            raise UsageError(
                f"A mask ratio of {self.ratio:g} masks {self.count} of the {self.grid**2} patches of an image, and "
                "there must be masked and visible ones. Use a ratio between 0 and 1: --set image_mask_ratio=0.4."
            )
        if self.smallest < 0 or self.smallest_block > self.count:
            raise UsageError(
                f"The smallest block of {self.smallest:.0%} of the grid has {self.smallest_block} patches, and "
                f"{self.count} are masked. Use a smaller one: --set smallest_block=0.08."
            )

    @property
    def count(self) -> int:
        """Masked patches of each image."""
        return round(self.ratio * self.grid**2)

    @property
    def smallest_block(self) -> int:
        """Patches of the smallest block."""
        return max(1, round(self.smallest * self.grid**2))

    def mask(self, rng: np.random.Generator) -> np.ndarray:
        """Draw a mask: bool [grid, grid], true = masked, `count` of them.

        Blocks may overlap. Once none fits into what is left to mask, single patches at random fill the count.
        """
        masked = np.zeros((self.grid, self.grid), bool)
        while (missing := self.count - masked.sum()) > 0:
            block = self._block(masked, missing, rng)
            if block is None:
                masked.flat[rng.choice(np.flatnonzero(~masked), missing, replace=False)] = True
            else:
                masked[block] = True
        return masked

    def _block(self, masked: np.ndarray, missing: int, rng: np.random.Generator) -> tuple[slice, slice] | None:
        """A block that masks at least one and at most `missing` more patches; None where none was found."""
        for _ in range(TRIES):
            area = rng.uniform(*sorted((self.smallest_block, missing)))
            aspect = math.exp(rng.uniform(*map(math.log, ASPECT)))
            height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if not (0 < height < self.grid and 0 < width < self.grid):
                continue
            top, left = rng.integers(self.grid - height + 1), rng.integers(self.grid - width + 1)
            block = slice(top, top + height), slice(left, left + width)
            if 0 < np.count_nonzero(~masked[block]) <= missing:
                return block
        return None


@dataclass(frozen=True, kw_only=True)
class TokenMasking:
    """Masking of single tokens of a text.

    ratio: share of the tokens without `<s>`, `</s>` and padding, rounded to a whole number, at least one.

    Raises:
        UsageError: a ratio outside of 0 to 1, both excluded.
    """

    ratio: float

    def __post_init__(self) -> None:
        if not 0 < self.ratio < 1:
            raise UsageError(
                f"A mask ratio of {self.ratio:g} of a text's tokens masks all or none of them. Use one between 0 and "
                "1: 0.15 for texts (text_mask_ratio) and 0.5 for texts with an image (pair_mask_ratio)."
            )

    def mask(self, ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw a mask: bool [length], true = masked, for the token ids int [length] of one text."""
        places = np.flatnonzero(~np.isin(ids, UNMASKED))
        count = max(1, int(len(places) * self.ratio + 0.5))
        masked = np.zeros(len(ids), bool)
        masked[rng.permutation(places)[:count]] = True
        return masked


Modality = Literal["image", "text"]


class PairMasks(NamedTuple):
    """Masks of an image-text pair: bool [grid, grid] and bool [length], all false where nothing is masked."""

    image: np.ndarray
    text: np.ndarray


@dataclass(frozen=True, kw_only=True)
class PairMasking:
    """Masking of image-text pairs.

    reconstructed: modalities that are ever masked.
    joint: both at once; otherwise one of them, each as often. The paper says that a pair's masks are never joint, and
        not how the one modality is chosen: at random is ours.
    """

    image: BlockMasking
    text: TokenMasking
    reconstructed: Collection[Modality] = ("image", "text")
    joint: bool = False

    def masks(self, ids: np.ndarray, rng: np.random.Generator) -> PairMasks:
        """Draw the masks of a pair whose text has the token ids int [length]."""
        chosen = sorted(self.reconstructed)
        if not self.joint and len(chosen) > 1:
            chosen = [chosen[rng.integers(len(chosen))]]
        grid = self.image.grid
        return PairMasks(
            self.image.mask(rng) if "image" in chosen else np.zeros((grid, grid), bool),
            self.text.mask(ids, rng) if "text" in chosen else np.zeros(len(ids), bool),
        )
