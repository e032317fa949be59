"""Masks as COCO writes them: pycocotools reads back what was drawn."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco

from tasks.toy.coco_masks import TOLERANCE, box, polygons, run_lengths, simplified


def decoded(parts: list[list[float]], shape: tuple[int, ...]) -> np.ndarray:
    return coco.decode(coco.merge(coco.frPyObjects(parts, *shape))).astype(bool)


def picture(text: str) -> np.ndarray:
    return np.array([[letter == "#" for letter in line.strip()] for line in text.strip().splitlines()])


def blobs(seed: int) -> np.ndarray:
    """Random parts with holes: noise, averaged over five pixels each way, above its middle."""
    noise = np.random.default_rng(seed).random((64, 52))
    for _ in range(2):
        noise = sum(np.roll(noise, shift, (0, 1)) for shift in ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0)))
    return noise > np.median(noise)


RECTANGLES = """
    ##......####
    ##......####
    ........####
    ############
"""
NESTED = """
    ###########.
    #.........#.
    #.###.###.#.
    #.#.#.#.#.#.
    #.###.###.#.
    #.........#.
    #...#####.#.
    #...#####.#.
    #.........#.
    ###########.
"""
CORNERS = """
    ##..##..
    ##..##..
    ..##..##
    ..##..##
    ##..##..
    ##..##..
"""


@pytest.mark.parametrize(("text", "parts"), [(RECTANGLES, 2), (NESTED, 4), (CORNERS, 6)])
def test_every_pixel_comes_back(text: str, parts: int) -> None:
    """Parts, holes in holes, and pixels that touch at a corner only."""
    mask = picture(text)
    outlines = polygons(mask)
    assert len(outlines) == parts
    assert (decoded(outlines, mask.shape) == mask).all()


@pytest.mark.parametrize("seed", range(10))
def test_random_blobs_come_back(seed: int) -> None:
    mask = blobs(seed)
    again = decoded(polygons(mask), mask.shape)
    assert (mask & again).sum() / (mask | again).sum() > 0.97
    assert all(len(outline) >= 6 and len(outline) % 2 == 0 for outline in polygons(mask))


def test_straight_edges_become_few_corners() -> None:
    mask = np.zeros((40, 40), bool)
    mask[5:30, 10:35] = True
    (outline,) = polygons(mask)
    assert len(outline) <= 2 * 8
    assert {min(outline[::2]), max(outline[::2])} == {10, 35}
    assert {min(outline[1::2]), max(outline[1::2])} == {5, 30}


@pytest.mark.parametrize("flipped", [False, True])
def test_run_lengths_are_coco_run_lengths(flipped: bool) -> None:
    """Down the columns, beginning with a run of zeros, which is empty where the first pixel is one."""
    mask = blobs(0) ^ flipped
    lengths = run_lengths(mask)
    assert lengths["size"] == [64, 52]
    assert (lengths["counts"][0] == 0) == mask[0, 0]
    assert all(type(count) is int for count in lengths["counts"])
    assert (coco.decode(coco.frPyObjects(lengths, 64, 52)).astype(bool) == mask).all()


def test_run_lengths_by_hand() -> None:
    mask = picture("""
        .##
        .#.
    """)
    assert run_lengths(mask) == {"size": [2, 3], "counts": [2, 3, 1]}
    assert run_lengths(~mask) == {"size": [2, 3], "counts": [0, 2, 3, 1]}


def test_boxes_are_coco_boxes() -> None:
    mask = np.zeros((30, 20), bool)
    mask[4, 3] = mask[25, 19] = True
    assert box(mask) == coco.toBbox(coco.encode(np.asfortranarray(mask.astype(np.uint8)))).tolist() == [3, 4, 17, 22]


@pytest.mark.parametrize("tolerance", [2 * TOLERANCE, 1.5, 4.0])
def test_outlines_are_simplified_as_by_opencv(tolerance: float) -> None:
    import cv2

    rng = np.random.default_rng(0)
    for corners in range(3, 90):  # stars: outlines that meet no point twice
        angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
        radii = rng.uniform(20, 60, corners)
        outline = np.rint(np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1)).astype(np.int64)
        expected = cv2.approxPolyDP(outline.astype(np.int32)[:, None], tolerance, closed=True)[:, 0]
        np.testing.assert_array_equal(simplified(outline, tolerance=tolerance), expected)
