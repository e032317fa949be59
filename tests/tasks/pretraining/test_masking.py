from __future__ import annotations

import numpy as np
import pytest

from backbones.errors import UsageError
from backbones.tokenizer import BOS, EOS, PAD
from tasks.pretraining.masking import BlockMasking, PairMasking, TokenMasking, generator

SENTENCE = np.array([BOS, *range(100, 120), EOS])
GRIDS = [4, 6, 7, 8, 14, 16]


def draws(masking: BlockMasking, count: int = 300) -> np.ndarray:
    return np.stack([masking.mask(generator(0, index)) for index in range(count)])


def largest_rectangle(mask: np.ndarray) -> int:
    """Area of the largest rectangle that is masked throughout."""
    side = len(mask)
    return max(
        (bottom - top) * (right - left)
        for top in range(side)
        for bottom in range(top + 1, side + 1)
        for left in range(side)
        for right in range(left + 1, side + 1)
        if mask[top:bottom, left:right].all()
    )


@pytest.mark.parametrize(
    ("grid", "ratio", "count"),
    [(14, 0.4, 78), (16, 0.4, 102), (8, 0.4, 26), (4, 0.4, 6), (14, 75 / 196, 75)],  # the last one is BEiT v2's
)
def test_an_image_loses_exactly_its_share(grid: int, ratio: float, count: int) -> None:
    masks = draws(BlockMasking(grid=grid, ratio=ratio))
    assert (masks.sum((1, 2)) == count).all()


@pytest.mark.parametrize(("grid", "patches"), [(14, 16), (8, 5), (7, 4), (6, 3), (4, 1)])
def test_the_smallest_block_has_a_twelfth_of_the_grid(grid: int, patches: int) -> None:
    assert BlockMasking(grid=grid, ratio=0.4).smallest_block == patches


@pytest.mark.slow
@pytest.mark.parametrize("grid", [6, 7, 8, 14])
def test_every_mask_has_a_block_on_small_grids_too(grid: int) -> None:
    masking = BlockMasking(grid=grid, ratio=0.4)
    # Rounding the sides of a block of the smallest area may leave it a little smaller than that.
    least = 0.7 * masking.smallest_block
    assert all(largest_rectangle(mask) >= least for mask in draws(masking, 40))


def neighbours(masks: np.ndarray) -> float:
    """Share of the masked patches' neighbours in a row that are masked too."""
    return (masks[..., 1:] & masks[..., :-1]).sum() / masks[..., :-1].sum()


@pytest.mark.parametrize("grid", GRIDS)
def test_masked_patches_stand_together(grid: int) -> None:
    """Single patches at random would have masked neighbours as often as the ratio says."""
    assert neighbours(draws(BlockMasking(grid=grid, ratio=0.4))) > 0.4 + 0.1


@pytest.mark.slow
@pytest.mark.parametrize("grid", GRIDS)
def test_masks_favour_no_side_of_the_image(grid: int) -> None:
    mean = draws(BlockMasking(grid=grid, ratio=0.4), 1500).mean(0)
    half = grid // 2
    for turned in (mean, mean.T):
        assert turned[:half].mean() == pytest.approx(turned[-half:].mean(), abs=0.03)
    assert mean.min() > 0.02  # corners are rarely in a block


def test_a_mask_is_a_function_of_its_counters() -> None:
    masking = BlockMasking(grid=14, ratio=0.4)
    first = masking.mask(generator(3, 5, 7))
    assert (first == masking.mask(generator(3, 5, 7))).all()
    assert (first != masking.mask(generator(3, 5, 8))).any()
    assert (first != masking.mask(generator(3, 6, 7))).any()
    assert (first != masking.mask(generator(4, 5, 7))).any()


def test_blocks_overlap_without_losing_the_count() -> None:
    masks = draws(BlockMasking(grid=8, ratio=0.9, smallest=0.5))
    assert (masks.sum((1, 2)) == 58).all()


@pytest.mark.parametrize("ratio", [0.0, 1.0, 1.5, -0.1, 0.001, 0.999])
def test_a_ratio_that_leaves_nothing_to_predict_or_to_see_is_refused(ratio: float) -> None:
    with pytest.raises(UsageError, match="image_mask_ratio"):
        BlockMasking(grid=8, ratio=ratio)


@pytest.mark.parametrize(
    ("grid", "smallest", "numbers"), [(8, 0.5, "32 patches, and 26"), (6, 16 / 36, "16 patches, and 14")]
)
def test_a_smallest_block_larger_than_what_is_masked_is_refused(grid: int, smallest: float, numbers: str) -> None:
    with pytest.raises(UsageError, match=f"{numbers} are masked.*smallest_block"):
        BlockMasking(grid=grid, ratio=0.4, smallest=smallest)


@pytest.mark.parametrize(("ratio", "count"), [(0.15, 3), (0.5, 10), (0.001, 1), (0.125, 3), (0.999, 20)])
def test_a_text_loses_its_rounded_share_and_at_least_a_token(ratio: float, count: int) -> None:
    for index in range(50):
        assert TokenMasking(ratio=ratio).mask(SENTENCE, generator(index)).sum() == count


def test_special_tokens_are_never_masked_and_the_others_equally_often() -> None:
    ids = np.array([BOS, 100, 101, EOS, 102, 103, EOS, PAD, PAD])
    masks = np.stack([TokenMasking(ratio=0.5).mask(ids, generator(index)) for index in range(2000)])
    often = masks.mean(0)
    assert often[[0, 3, 6, 7, 8]].max() == 0
    assert often[[1, 2, 4, 5]] == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.5])
def test_a_text_ratio_of_nothing_or_everything_is_refused(ratio: float) -> None:
    with pytest.raises(UsageError, match="all or none"):
        TokenMasking(ratio=ratio)


def pairs(**options: object) -> list[tuple[int, int]]:
    """Masked patches and tokens of many pairs."""
    masking = PairMasking(image=BlockMasking(grid=8, ratio=0.4), text=TokenMasking(ratio=0.5), **options)
    masks = [masking.masks(SENTENCE, generator(index)) for index in range(400)]
    return [(int(mask.image.sum()), int(mask.text.sum())) for mask in masks]


def test_separate_masks_hide_the_image_or_the_text_each_as_often() -> None:
    counts = pairs()
    assert set(counts) == {(26, 0), (0, 10)}
    assert sum(image > 0 for image, _ in counts) == pytest.approx(200, abs=40)


def test_joint_masks_hide_both() -> None:
    assert set(pairs(joint=True)) == {(26, 10)}


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize(("modality", "counts"), [("image", (26, 0)), ("text", (0, 10))])
def test_only_what_is_reconstructed_is_masked(modality: str, counts: tuple[int, int], joint: bool) -> None:
    assert set(pairs(reconstructed=(modality,), joint=joint)) == {counts}
