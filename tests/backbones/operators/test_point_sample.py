"""mmcv's `point_sample`, which Mask2Former's losses use, needs nothing compiled but the import of `mmcv.ops`."""

from __future__ import annotations

import torch


def test_points_are_interpolated_between_centres_of_cells() -> None:
    from mmcv.ops import point_sample

    # 10 · row + column at the centre of each cell, linear between centres, half at the edge, zero outside.
    plane = (10.0 * torch.arange(4)[:, None] + torch.arange(5)).view(1, 1, 4, 5).requires_grad_()
    points = torch.tensor([[[0.5, 0.5], [0.1, 0.125], [0.3, 0.25], [1.0, 0.625], [1.5, 0.5]]])  # (x, y)
    found = point_sample(plane, points)
    torch.testing.assert_close(found, torch.tensor([[[17.0, 0.0, 6.0, 12.0, 0.0]]]), atol=1e-5, rtol=0)
    found.sum().backward()
    # The first point lies between rows 1 and 2 of column 2; the third between rows 0 and 1 of column 1.
    assert plane.grad[0, 0, :, 2].tolist() == [0, 0.5, 0.5, 0]
    torch.testing.assert_close(plane.grad[0, 0, :, 1], torch.tensor([0.5, 0.5, 0, 0]), atol=1e-6, rtol=0)
