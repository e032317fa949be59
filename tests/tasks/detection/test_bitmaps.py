from __future__ import annotations

import numpy as np
import pytest

from tasks.detection.bitmaps import bitmap, window_bitmap


@pytest.mark.parametrize(("height", "width"), [(7, 5), (3, 4), (14, 10), (20, 3), (1, 1)])
def test_a_run_length_mask_is_resized_to_the_nearest_pixel(height: int, width: int) -> None:
    from PIL import Image
    from pycocotools import mask

    pixels = np.random.default_rng(0).integers(0, 2, (7, 5), dtype=np.uint8)
    code = mask.encode(np.asfortranarray(pixels))
    segmentation = {"size": code["size"], "counts": code["counts"].decode()}
    expected = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST))
    np.testing.assert_array_equal(bitmap(segmentation, height, width), expected)


@pytest.mark.parametrize("seed", range(20))
def test_a_mask_drawn_in_a_window_is_that_part_of_the_whole_one(seed: int) -> None:
    """Polygons that lie inside, reach out of the picture, or lie wholly outside it, and of several parts."""
    rng = np.random.default_rng(seed)
    polygons = [(rng.uniform(-30, 130, (5, 2)) * rng.uniform(0.05, 1)).ravel().tolist() for _ in range(2)]
    size, factors = (int(rng.integers(40, 160)), int(rng.integers(40, 160))), tuple(rng.uniform(0.3, 2.0, 2))
    top, left = int(rng.integers(0, size[0] - 20)), int(rng.integers(0, size[1] - 20))
    height, width = int(rng.integers(1, size[0] - top + 1)), int(rng.integers(1, size[1] - left + 1))
    whole = bitmap(polygons, *size, factors)
    window = window_bitmap(polygons, size, factors, (top, left, height, width))
    np.testing.assert_array_equal(window, whole[top : top + height, left : left + width])


def test_a_run_length_mask_is_cut_too() -> None:
    code = {"size": [4, 6], "counts": [6, 2, 16]}
    whole = bitmap(code, 8, 12, (2.0, 2.0))
    assert whole[:, 3].sum() == 4
    np.testing.assert_array_equal(window_bitmap(code, (8, 12), (2.0, 2.0), (3, 1, 5, 8)), whole[3:8, 1:9])
