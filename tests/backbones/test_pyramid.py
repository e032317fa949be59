from __future__ import annotations

import torch

from backbones.pyramid import MapPyramid, SimpleFeaturePyramid


def test_the_simple_pyramid_has_five_strides_of_the_last_map() -> None:
    torch.manual_seed(0)
    pyramid = SimpleFeaturePyramid(32, out_channels=16)
    ignored, last = torch.zeros(2, 32, 6, 8), torch.randn(2, 32, 6, 8)
    levels = pyramid([ignored, last])
    assert [tuple(level.shape) for level in levels] == [
        (2, 16, 24, 32), (2, 16, 12, 16), (2, 16, 6, 8), (2, 16, 3, 4), (2, 16, 2, 2)
    ]  # fmt: skip
    assert torch.equal(levels[4], levels[3][:, :, ::2, ::2])
    # Channels are normalised at each place (ViTDet's "LN").
    torch.testing.assert_close(levels[0].mean(1), torch.zeros(2, 24, 32), atol=1e-5, rtol=0)


def test_parameters_are_those_of_vitdet_base() -> None:
    """Counted by hand for 768 channels and 256: two transposed convolutions and a norm, one, none, none; then 1x1
    and 3x3 convolutions without bias, each with a norm."""
    up4 = (768 * 384 * 4 + 384) + 2 * 384 + (384 * 192 * 4 + 192)
    up2 = 768 * 384 * 4 + 384
    out = sum(channels * 256 + 2 * 256 + 256 * 256 * 9 + 2 * 256 for channels in (192, 384, 768, 768))
    assert sum(parameter.numel() for parameter in SimpleFeaturePyramid(768).parameters()) == up4 + up2 + out


def test_four_maps_go_to_four_strides() -> None:
    maps = [torch.randn(1, 32, 6, 8) for _ in range(4)]
    levels = MapPyramid(32)(maps)
    assert [tuple(level.shape[1:]) for level in levels] == [(32, 24, 32), (32, 12, 16), (32, 6, 8), (32, 3, 4)]
    assert torch.equal(levels[2], maps[2])
    assert torch.equal(levels[3], torch.nn.functional.max_pool2d(maps[3], 2))
