"""Compressed run lengths of COCO's masks, checked before anything is computed with them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_LARGEST_DIGITS = 7  # of 5 bits: more than 32 bits is no count


def pixels(codes: Sequence[str | bytes]) -> np.ndarray:
    """Pixels that the run lengths of each code add up to, int64 [codes]; -1 of one that is no code.

    The form is that of pycocotools' `rleToString`: numbers of 5 bits a character, the lowest first, where bit 5 says
    that there are more and bit 4 of the last is the sign; from the fourth number on each is the difference to the one
    two before.
    """
    contents = [code.encode() if isinstance(code, str) else bytes(code) for code in codes]
    totals = np.zeros(len(contents), np.int64)
    filled = np.array([index for index, content in enumerate(contents) if content], np.int64)
    if not len(filled):
        return totals
    characters = np.frombuffer(b"".join(contents), np.uint8).astype(np.int64) - 48
    ends = np.cumsum([len(contents[index]) for index in filled])  # of each code
    is_last = (characters & 32) == 0  # of its number
    whole = is_last[ends - 1]
    is_last[ends - 1] = True
    lasts = np.flatnonzero(is_last)
    firsts = np.concatenate([[0], lasts[:-1] + 1])
    digits = lasts - firsts + 1
    place = np.arange(len(characters)) - np.repeat(firsts, digits)
    parts = (characters & 31) << 5 * np.minimum(place, _LARGEST_DIGITS)
    numbers = np.add.reduceat(parts, firsts)
    negative = (characters[lasts] & 16) > 0
    numbers -= np.where(negative, np.int64(1) << 5 * np.minimum(digits, _LARGEST_DIGITS), 0)
    starts = np.searchsorted(lasts, ends - 1, side="left")
    starts = np.concatenate([[0], starts[:-1] + 1])  # index of each code's first number
    counts = np.diff(np.concatenate([starts, [len(numbers)]]))
    index = np.arange(len(numbers)) - np.repeat(starts, counts)
    # A difference counts in its own run and in every second one after it.
    times = np.where(index == 0, 1, (np.repeat(counts, counts) - 1 - index) // 2 + 1)
    sums = np.add.reduceat(numbers * times, starts)
    unknown = np.add.reduceat((characters < 0) | (characters > 63), np.concatenate([[0], ends[:-1]])) > 0
    too_long = np.maximum.reduceat(digits, starts) > _LARGEST_DIGITS
    totals[filled] = np.where(whole & ~unknown & ~too_long, sums, -1)
    return totals
