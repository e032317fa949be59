from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tasks.common.pictures import (
    GAP,
    LINE,
    PANEL,
    distinct_colours,
    overlaid,
    segmentation_picture,
    side_by_side,
    with_legend,
)

COLOURS = np.array([[250, 0, 0], [0, 250, 0], [0, 0, 250]], np.uint8)
NAMES = ("sky", "tree", "road")


def colours_of(picture: Image.Image) -> set[tuple[int, ...]]:
    return {tuple(colour) for colour in np.asarray(picture).reshape(-1, 3).tolist()}


def test_classes_are_laid_over_the_image_and_no_class_is_not() -> None:
    image = np.full((1, 3, 3), 100, np.uint8)
    painted = overlaid(image, np.array([[0, 1, 3]], np.uint8), COLOURS)
    assert painted.tolist() == [[[100, 100, 100], [190, 40, 40], [40, 40, 190]]]
    assert (image == 100).all()


@pytest.mark.slow
def test_image_truth_and_prediction_stand_in_a_row_with_a_legend() -> None:
    image = np.full((48, 64, 3), 100, np.uint8)
    truth, prediction = np.ones((48, 64), np.uint8), np.full((48, 64), 3, np.uint8)
    picture = segmentation_picture(image, truth, prediction, names=NAMES, colours=COLOURS)
    width, height = PANEL
    assert picture.width == 3 * width + 4 * GAP
    middles = [(GAP + width // 2 + number * (width + GAP), LINE + height // 2) for number in range(3)]
    assert [picture.getpixel(place) for place in middles] == [(100, 100, 100), (190, 40, 40), (40, 40, 190)]
    legend = picture.crop((0, LINE + height + GAP, picture.width, picture.height))
    assert {(250, 0, 0), (0, 0, 250)} <= colours_of(legend)
    assert (0, 250, 0) not in colours_of(legend)  # in neither map
    # The prediction of a test image has no truth beside it.
    picture = segmentation_picture(image, None, prediction, names=NAMES, colours=COLOURS)
    assert picture.width == 2 * width + 3 * GAP
    assert picture.getpixel(middles[1]) == (40, 40, 190)
    assert (250, 0, 0) not in colours_of(picture)


@pytest.mark.parametrize("size", [(1, 1), (20_000, 40), (3, 900)])
def test_panels_of_any_size_fit_in_their_own_shape(size: tuple[int, int]) -> None:
    picture = side_by_side([Image.new("RGB", size, "red")], ["a title"])
    red = (np.asarray(picture) == (255, 0, 0)).all(axis=2)
    height, width = red.any(1).sum(), red.any(0).sum()
    assert width == PANEL[0] or height == PANEL[1]
    assert width <= PANEL[0]
    assert height <= PANEL[1]
    assert width / height == pytest.approx(size[0] / size[1], rel=0.3)


def test_a_long_legend_takes_more_lines() -> None:
    picture = Image.new("RGB", (300, 20), "white")
    entries = [(f"class number {number}", tuple(colour)) for number, colour in enumerate(distinct_colours(9).tolist())]
    whole = with_legend(picture, entries)
    assert (whole.height - 20) // LINE == 5  # two in a line
    assert {colour for _, colour in entries} <= colours_of(whole)
    assert with_legend(picture, []).size == (300, 20)


def test_classes_have_colours_of_their_own() -> None:
    colours = distinct_colours(255).astype(int)
    assert len({tuple(colour) for colour in colours.tolist()}) == 255
    distances = np.abs(colours[:12, None] - colours[None, :12]).sum(2) + 999 * np.eye(12)
    assert distances.min() > 60
    assert distinct_colours(0).shape == (0, 3)
