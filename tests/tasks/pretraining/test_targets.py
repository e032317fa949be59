from __future__ import annotations

import math

import pytest
import torch

from tasks.pretraining.targets import CodeTarget, PixelTarget, normalised


def test_pixels_are_normalised_by_the_statistics_of_values_from_0_to_1() -> None:
    pixels = torch.tensor([0, 255, 51], dtype=torch.uint8).view(1, 3, 1, 1)
    assert normalised(pixels).flatten().tolist() == pytest.approx([-1, 1, -0.6])
    other = normalised(pixels, mean=(0.1, 0.2, 0.3), std=(0.5, 0.4, 0.2)).flatten().tolist()
    assert other == pytest.approx([-0.2, 2.0, -0.5])


def test_a_dark_image_is_normalised_like_any_other() -> None:
    """The official tokenizer reads a batch without values above 1 as one in 0 to 1."""
    dark = torch.ones(1, 3, 2, 2, dtype=torch.uint8)
    assert normalised(dark) == pytest.approx(torch.full((1, 3, 2, 2), 1 / 127.5 - 1))


def test_a_patch_is_its_pixels_less_their_mean_by_their_deviation() -> None:
    pixels = torch.randint(0, 256, (2, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    target = PixelTarget(4)(pixels)
    assert target.shape == (2, 4, 48)
    for image, row, column in ((0, 0, 1), (1, 1, 0)):
        patch = pixels[image, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4].double() / 255
        by_hand = ((patch - patch.mean()) / patch.std()).permute(1, 2, 0).flatten()  # rows, columns, channels
        assert torch.allclose(target[image, 2 * row + column].double(), by_hand, atol=1e-4)


def test_a_patch_of_one_colour_has_a_finite_target() -> None:
    assert PixelTarget(4)(torch.full((1, 3, 4, 4), 90, dtype=torch.uint8)).abs().max() < 1e-3


def test_pixels_are_predicted_with_the_mean_squared_error_of_a_patch() -> None:
    losses = PixelTarget(1).losses(torch.tensor([[1.0, 2, 3], [0, 0, 0]]), torch.tensor([[1.0, 0, 0], [3, 0, 0]]))
    assert losses.tolist() == pytest.approx([13 / 3, 3])


def test_codes_are_predicted_with_cross_entropy_and_counted() -> None:
    predicted = torch.tensor([[2.0, 0, 0], [0, 1, 0]])
    target = torch.tensor([0, 2])
    losses = CodeTarget().losses(predicted, target)
    log_sums = math.log(math.exp(2) + 2), math.log(math.e + 2)
    assert losses.tolist() == pytest.approx([log_sums[0] - 2, log_sums[1]])
    assert CodeTarget().hits(predicted, target) == 1
