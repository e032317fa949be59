"""Sums of run lengths, against pycocotools' encoder."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask

from backbones import InputError
from tasks.detection.metrics import checked
from tasks.detection.run_lengths import pixels


def test_the_codes_of_masks_add_up_to_their_images() -> None:
    rng = np.random.default_rng(0)
    codes, sizes = [], []
    for number in range(60):
        height, width = rng.integers(1, 400, 2)
        share = (0, 0.5, 1, 0.001)[number % 4]
        drawn = rng.random((height, width)) < share
        codes.append(mask.encode(np.asfortranarray(drawn.astype(np.uint8)))["counts"])
        sizes.append(height * width)
    assert pixels(codes).tolist() == sizes
    assert pixels([code.decode() for code in codes[:3]]).tolist() == sizes[:3]


def test_what_is_no_code_is_told_from_a_code_that_is_too_short() -> None:
    whole = mask.encode(np.ones((9, 7), np.uint8, order="F"))["counts"]
    assert pixels(["", whole, "o", "~", "p" * 9 + "0", "é"]).tolist() == [0, 63, -1, -1, -1, -1]
    assert pixels([]).tolist() == []


@pytest.mark.parametrize("character", range(6))
def test_a_changed_character_is_seen_before_overlaps_are_computed(character: int) -> None:
    """The compiled overlaps of a code that ends before the image does never return."""
    drawn = np.zeros((180, 240), np.uint8, order="F")
    drawn[20:60, 30:90] = 1
    code = mask.encode(drawn)["counts"].decode()
    truth = {"width": 240, "height": 180}
    record = {"scores": np.ones(1), "labels": np.ones(1), "masks": [{"size": [180, 240], "counts": code}]}
    assert checked(record, truth, {1: "one"}, image="1")["masks"] == record["masks"]
    changed = code[:character] + chr(ord(code[character]) ^ 1) + code[character + 1 :]
    record["masks"] = [{"size": [180, 240], "counts": changed}]
    with pytest.raises(InputError, match=r"image 1: mask 0 has .*and the image has 43,200"):
        checked(record, truth, {1: "one"}, image="1")
