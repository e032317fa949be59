from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from tasks.pretraining.views import Views


def ramp(width: int = 160, height: int = 120) -> Image.Image:
    """An image whose red is the column and whose green is the row: a crop's place can be read from its pixels."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.arange(width)[None] * 255 // (width - 1)
    pixels[..., 1] = np.arange(height)[:, None] * 255 // (height - 1)
    pixels[..., 2] = 90
    return Image.fromarray(pixels)


def drawn(seed: int, **options: object) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(seed)
    return Views(**{"sides": (64, 32), "smallest_crop": 0.3, "color_jitter": 0.4, "flip": True, **options})(ramp())


@pytest.mark.parametrize("seed", range(8))
def test_views_share_crop_flip_and_colours(seed: int) -> None:
    large, small = drawn(seed)
    assert (large.shape, small.shape, large.dtype) == ((3, 64, 64), (3, 32, 32), torch.uint8)
    means = F.avg_pool2d(large.float(), 2)
    assert (means - small.float())[:, 2:-2, 2:-2].abs().max() < 4


def test_draws_follow_the_generator() -> None:
    assert all(torch.equal(*pair) for pair in zip(drawn(3), drawn(3), strict=True))
    assert not torch.equal(drawn(3)[0], drawn(4)[0])


def test_flips_happen_half_of_the_time_and_only_where_they_may() -> None:
    def flipped(seed: int, flip: bool) -> bool:
        (view,) = drawn(seed, sides=(32,), color_jitter=0.0, flip=flip)
        return bool(view[0, 0, 0] > view[0, 0, -1])

    shares = [sum(flipped(seed, flip) for seed in range(60)) for flip in (False, True)]
    assert shares[0] == 0
    assert 18 <= shares[1] <= 42


def test_crops_have_at_least_the_share_that_is_asked_for() -> None:
    for seed in range(40):
        (view,) = drawn(seed, sides=(64,), color_jitter=0.0, flip=False, smallest_crop=0.6)
        width, height = (int(view[channel].max()) - int(view[channel].min()) for channel in (0, 1))
        assert width * height / 255**2 > 0.55


def test_without_options_the_whole_image_is_the_view() -> None:
    (view,) = Views(sides=(120,))(ramp(120, 120))
    assert torch.equal(view, torch.from_numpy(np.asarray(ramp(120, 120))).permute(2, 0, 1))
