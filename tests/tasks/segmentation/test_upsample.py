from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tasks.segmentation import upsample
from tasks.segmentation.upsample import best_classes


def scores(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(7, *size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [(40, 31), (9, 200), (1, 1), (13, 17)], ids=str)
def test_equals_interpolation_of_everything(size: tuple[int, int]) -> None:
    view = scores(13, 17)
    expected = F.interpolate(view[None], size=size, mode="bilinear", align_corners=False)[0].argmax(0)
    found = best_classes([view], size)
    assert found.dtype == torch.uint8
    # Where two classes are equal but for rounding, either may win.
    assert (found != expected).float().mean() < 1e-3


def test_views_are_averaged_as_probabilities_at_the_final_size() -> None:
    views = [scores(13, 17), 4 * scores(20, 25, seed=1)]
    expected = sum(F.interpolate(view[None], size=(40, 31), mode="bilinear").softmax(1) for view in views)[0].argmax(0)
    found = best_classes(views, (40, 31))
    assert (found != expected).float().mean() < 1e-3
    assert (found != best_classes(views[1:], (40, 31))).any()


def test_bands_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    views = [scores(13, 17), scores(20, 25, seed=1)]
    whole = best_classes(views, (40, 31))
    monkeypatch.setattr(upsample, "MAX_SCORES", 7 * 31 * 3)
    assert torch.equal(best_classes(views, (40, 31)), whole)
