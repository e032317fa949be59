from __future__ import annotations

import math

import pytest
import torch
import torchvision
from torch import Tensor

# One within the map, one over its edge, one of less than a cell, on two images.
REGIONS = torch.tensor([[0.0, 3, 2, 27, 21], [1, 18, 9, 44, 40], [1, 5.5, 6, 6.5, 7.25], [0, 0, 0, 12, 31]])
SCALE = 0.25  # cells per pixel


def features(where: torch.device | str = "cpu") -> Tensor:
    return torch.randn(2, 3, 9, 8, generator=torch.Generator().manual_seed(0)).to(where)


def bilinear(plane: Tensor, y: float, x: float) -> float:
    """RoI align's rule: nothing beyond one cell outside, the edge's cells up to there."""
    height, width = plane.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = min(max(y, 0.0), height - 1), min(max(x, 0.0), width - 1)
    top, left = min(int(y), height - 1), min(int(x), width - 1)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    down, across = y - top, x - left
    upper = (1 - across) * plane[top, left] + across * plane[top, right]
    lower = (1 - across) * plane[bottom, left] + across * plane[bottom, right]
    return float((1 - down) * upper + down * lower)


def align(maps: Tensor, size: tuple[int, int], ratio: int, *, aligned: bool, largest: bool) -> Tensor:
    """RoI align sample by sample."""
    out = torch.zeros(len(REGIONS), maps.shape[1], *size)
    for number, region in enumerate(REGIONS.tolist()):
        shift = 0.5 if aligned else 0.0
        left, top, right, bottom = (place * SCALE - shift for place in region[1:])
        height, width = bottom - top, right - left
        if not aligned:
            height, width = max(height, 1.0), max(width, 1.0)
        rows = ratio or math.ceil(height / size[0])
        columns = ratio or math.ceil(width / size[1])
        for channel in range(maps.shape[1]):
            plane = maps[int(region[0]), channel]
            for y in range(size[0]):
                for x in range(size[1]):
                    samples = [
                        bilinear(
                            plane,
                            top + (y + (i + 0.5) / rows) * height / size[0],
                            left + (x + (j + 0.5) / columns) * width / size[1],
                        )
                        for i in range(rows)
                        for j in range(columns)
                    ]
                    out[number, channel, y, x] = max(samples) if largest else sum(samples) / len(samples)
    return out


@pytest.mark.parametrize("ratio", [0, 2], ids=["adaptive", "two by two"])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("mode", ["avg", "max"])
def test_roi_align_is_a_plain_loop(where: torch.device, mode: str, aligned: bool, ratio: int) -> None:
    from mmcv.ops import roi_align

    found = roi_align(features(where), REGIONS.to(where), (2, 3), SCALE, ratio, mode, aligned).cpu()
    expected = align(features(), (2, 3), ratio, aligned=aligned, largest=mode == "max")
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    if mode == "avg":
        theirs = torchvision.ops.roi_align(features(), REGIONS, (2, 3), SCALE, ratio, aligned)
        torch.testing.assert_close(found, theirs, atol=1e-6, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("mode", ["avg", "max"])
def test_gradients_of_roi_align_are_finite_differences(mode: str, aligned: bool, ratio: int) -> None:
    from mmcv.ops import roi_align

    maps, regions = features()[:, :2].double().requires_grad_(), REGIONS.double()
    assert torch.autograd.gradcheck(lambda x: roi_align(x, regions, (2, 3), SCALE, ratio, mode, aligned), maps)


@pytest.mark.parametrize("mode", ["avg", "max"])
def test_roi_align_in_bfloat16_is_that_of_the_rounded_map(where: torch.device, mode: str) -> None:
    """Coordinates are not rounded: they would be off by a cell, and other samples would be the largest."""
    from mmcv.ops import roi_align

    low = features(where).bfloat16().requires_grad_()
    high = low.detach().float().requires_grad_()
    found, expected = (roi_align(maps, REGIONS.to(where), (2, 3), SCALE, 0, mode, True) for maps in (low, high))
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, expected.bfloat16())
    found.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(low.grad.float(), high.grad, atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize("mode", ["avg", "max"])
def test_no_regions_are_no_error(mode: str) -> None:
    from mmcv.ops import roi_align, roi_pool

    maps = features().requires_grad_()
    out = roi_align(maps, REGIONS[:0], (2, 3), SCALE, 0, mode, True)
    pooled = roi_pool(maps, REGIONS[:0], (2, 3), SCALE)
    assert out.shape == pooled.shape == (0, 3, 2, 3)
    (out.sum() + pooled.sum()).backward()
    assert not maps.grad.any()


def test_roi_pool_of_whole_cells_is_torchvisions(where: torch.device) -> None:
    from mmcv.ops import roi_pool

    regions = torch.tensor([[0.0, 1, 1, 6, 7], [1, 2, 0, 2, 4], [1, 5, 6, 12, 13]])
    ours, theirs = (features(where).requires_grad_() for _ in range(2))
    found = roi_pool(ours, regions.to(where), (2, 3), 1.0)
    expected = torchvision.ops.roi_pool(theirs, regions.to(where), (2, 3), 1.0)
    assert torch.equal(found, expected)
    found.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_roi_pool_takes_every_cell_that_a_bin_touches() -> None:
    from mmcv.ops import roi_pool

    plane = torch.arange(72.0).view(1, 1, 9, 8)
    # Rows 1.25 to 6.25 in two bins, columns 0.5 to 4.5 in two: rows 1-3 and 3-6, columns 0-2 and 2-4.
    found = roi_pool(plane, torch.tensor([[0.0, 2, 5, 17, 24]]), (2, 2), SCALE)
    assert found[0, 0].tolist() == [[3 * 8 + 2, 3 * 8 + 4], [6 * 8 + 2, 6 * 8 + 4]]
    # Wholly outside, and upside down: nothing, also to pass back.
    maps = features().requires_grad_()
    outside, upside_down, just = [0.0, 100, 100, 120, 120], [0, 20, 20, 10, 10], [0, 10.6, 10.6, 9.5, 9.5]
    nothing = roi_pool(maps, torch.tensor([outside, upside_down, just]), (2, 2), SCALE)
    assert not nothing.any()
    nothing.sum().backward()
    assert not maps.grad.any()


@pytest.mark.slow
def test_gradients_of_roi_pool_are_finite_differences() -> None:
    from mmcv.ops import roi_pool

    maps = features()[:, :2].double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: roi_pool(x, REGIONS.double(), (2, 3), SCALE), maps)
