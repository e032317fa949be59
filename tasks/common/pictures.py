"""Pictures for looking at predictions: panels side by side under titles, and what their colours mean."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

PANEL = (640, 480)  # every panel is made to fit into this, in pixels
TEXT = 14  # height of letters
GAP = 8  # between panels and around texts
LINE = TEXT + GAP
OPACITY = 0.6  # of colours laid over an image


def segmentation_picture(
    image: np.ndarray, truth: np.ndarray | None, prediction: np.ndarray, *, names: Sequence[str], colours: np.ndarray
) -> Image.Image:
    """An image, its label map and a predicted map side by side, with a legend of the classes that occur in the maps.

    Args:
        image: uint8 [height, width, 3], RGB.
        truth: uint8 [height, width], 0 for no class, 1 + class elsewhere; None where it is not public.
        prediction: the same.
        names: of the classes.
        colours: uint8 [classes, 3], such as `distinct_colours` makes.
    """
    maps = {"ground truth": truth, "prediction": prediction}
    shown = {title: ids for title, ids in maps.items() if ids is not None}
    panels = [image, *[overlaid(image, ids, colours) for ids in shown.values()]]
    picture = side_by_side([Image.fromarray(panel) for panel in panels], ["image", *shown])
    pixels = sum(np.bincount(ids.ravel(), minlength=len(names) + 1)[1:] for ids in shown.values())
    order = [index for index in np.argsort(-pixels, kind="stable") if pixels[index]]
    return with_legend(picture, [(names[index], tuple(colours[index].tolist())) for index in order])


class DrawnObject(NamedTuple):
    """An object to draw."""

    text: str
    kind: int  # index of its class
    box: Sequence[float]  # x, y, width, height in pixels
    mask: np.ndarray | None  # bool [height, width]


def detection_picture(
    image: np.ndarray, truth: Sequence[DrawnObject] | None, prediction: Sequence[DrawnObject], *, colours: np.ndarray
) -> Image.Image:
    """An image, its objects and those that were found, side by side.

    Args:
        image: uint8 [height, width, 3], RGB.
        truth: None where it is not public.
        colours: uint8 [classes, 3], such as `distinct_colours` makes.
    """
    kinds = {"ground truth": truth, "prediction": prediction}
    shown = {title: objects for title, objects in kinds.items() if objects is not None}
    panels = [Image.fromarray(image), *[_with_objects(image, objects, colours) for objects in shown.values()]]
    return side_by_side(panels, ["image", *shown])


def _with_objects(image: np.ndarray, objects: Sequence[DrawnObject], colours: np.ndarray) -> Image.Image:
    """Masks laid over the image, and boxes with their texts; made to fit first, so that letters stay readable."""
    painted = image.copy()
    for seen in objects:
        if seen.mask is not None:
            mixed = (1 - OPACITY) * painted[seen.mask] + OPACITY * colours[seen.kind]
            painted[seen.mask] = np.rint(mixed).astype(np.uint8)
    picture = _fitted(Image.fromarray(painted))
    scale = picture.width / image.shape[1]
    draw = ImageDraw.Draw(picture)
    for seen in objects:
        x, y, width, height = (side * scale for side in seen.box)
        colour = tuple(colours[seen.kind].tolist())
        draw.rectangle((x, y, x + max(width, 1), y + max(height, 1)), outline=colour, width=2)
        corner = (min(x + 3, picture.width - _font().getlength(seen.text)), max(y - LINE + GAP // 2, 0))
        draw.text(corner, seen.text, "white", _font(), stroke_width=2, stroke_fill="black")
    return picture


def overlaid(image: np.ndarray, ids: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """An image with the colours of its classes over it; pixels of no class (0) keep their own."""
    painted = image.copy()
    labelled = ids > 0
    mixed = (1 - OPACITY) * image[labelled] + OPACITY * colours[ids[labelled] - 1]
    painted[labelled] = np.rint(mixed).astype(np.uint8)
    return painted


def distinct_colours(count: int) -> np.ndarray:
    """uint8 [count, 3]: each hue is far from the few before it, and lightness alternates."""
    golden = (5**0.5 - 1) / 2
    shades = ((0.85, 0.95), (0.6, 0.7), (0.95, 0.5))  # saturation and value
    colours = [colorsys.hsv_to_rgb(number * golden % 1, *shades[number % 3]) for number in range(count)]
    return np.rint(255 * np.array(colours).reshape(-1, 3)).astype(np.uint8)


def side_by_side(panels: Sequence[Image.Image], titles: Sequence[str]) -> Image.Image:
    """Images in a row, each under its title, made to fit into `PANEL` in their own shape."""
    fitted = [_fitted(panel) for panel in panels]
    widths = [max(panel.width, int(_font().getlength(title))) for panel, title in zip(fitted, titles, strict=True)]
    size = (sum(widths) + GAP * (len(widths) + 1), max(panel.height for panel in fitted) + LINE + GAP)
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    left = GAP
    for panel, title, width in zip(fitted, titles, widths, strict=True):
        draw.text((left, GAP // 2), title, "black", _font())
        picture.paste(panel, (left, LINE))
        left += width + GAP
    return picture


def with_legend(picture: Image.Image, entries: Sequence[tuple[str, tuple[int, int, int]]]) -> Image.Image:
    """A picture with the meaning of its colours below: names beside squares, in as many lines as they need."""
    corners, left, top = [], GAP, 0
    for name, _ in entries:
        width = TEXT + GAP // 2 + int(_font().getlength(name)) + 2 * GAP
        if left > GAP and left + width > picture.width:
            left, top = GAP, top + LINE
        corners.append((left, picture.height + top))
        left += width
    height = picture.height + (top + LINE if entries else 0)
    whole = Image.new("RGB", (picture.width, height), "white")
    whole.paste(picture, (0, 0))
    draw = ImageDraw.Draw(whole)
    for (name, colour), (x, y) in zip(entries, corners, strict=True):
        draw.rectangle((x, y, x + TEXT - 1, y + TEXT - 1), fill=colour)
        draw.text((x + TEXT + GAP // 2, y), name, "black", _font())
    return whole


def _fitted(panel: Image.Image) -> Image.Image:
    scale = min(PANEL[0] / panel.width, PANEL[1] / panel.height)
    size = (max(1, round(panel.width * scale)), max(1, round(panel.height * scale)))
    return panel.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(TEXT)
