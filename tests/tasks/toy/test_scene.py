"""Scenes and their drawing: the same everywhere, and what the masks say of them."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from tasks.toy.draw import draw, masks, picture_shape
from tasks.toy.scene import MATERIALS, Scene, Texture, Thing, generator, sample_scene, set_off
from tasks.toy.shapes import FRAGMENTS, SHAPES, unit_area

SIZE = 80


def scenes(count: int) -> list[Scene]:
    return [sample_scene(generator(0, "test", index)) for index in range(count)]


def plain(shape: str, *, x: float = 0.5, y: float = 0.5, size: float = 0.5, angle: float = 0.0) -> Thing:
    return Thing(shape, Texture("solid", "red", "black", pitch=0.1, angle=0.0, phase=0.0), size, x, y, angle)


WHITE = Texture("solid", "white", "cream", pitch=0.1, angle=0.0, phase=0.0)


def test_pictures_are_the_same_on_every_machine() -> None:
    pictures = np.stack([draw(scene, size=SIZE) for scene in scenes(40)])
    assert pictures.dtype == np.uint8 and pictures.shape == (40, SIZE, SIZE, 3)
    assert hashlib.sha256(pictures.tobytes()).hexdigest() == (
        "cf6c4060aea5b35729d6e2897f3da17f11c7575d124731d010f21b9fc9578660"
    )


def test_seed_stream_and_index_each_change_the_scene() -> None:
    numbers = [(0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1)]
    assert len({sample_scene(generator(*number)) for number in numbers}) == len(numbers)


def test_the_subject_changes_nothing_but_its_own_shape_and_size() -> None:
    """All else is drawn by the same lot, and sizes differ so that areas do not."""
    drawn = {shape: sample_scene(generator(0, "test", 0), subject=shape) for shape in SHAPES}
    same = {
        replace(scene, things=(replace(scene.things[0], shape="circle", size=1.0), *scene.things[1:]))
        for scene in drawn.values()
    }
    assert len(same) == 1
    areas = [scene.subject.size**2 * unit_area(shape) for shape, scene in drawn.items()]
    assert max(areas) == pytest.approx(min(areas))


def test_the_subject_is_the_largest_thing() -> None:
    for scene in scenes(200):
        assert scene.subject is scene.things[0]
        others = scene.things[1:] + scene.clutter
        assert len(others) <= 3
        assert 0.45 <= scene.subject.size <= 1.0
        assert all(other.size < 0.6 * scene.subject.size for other in others)
        areas = masks(scene, size=SIZE).sum((1, 2))
        assert areas.argmax() == 0


def test_scenes_use_all_words() -> None:
    sampled = scenes(300)
    things = [thing for scene in sampled for thing in scene.things]
    assert {thing.shape for thing in things} == set(SHAPES)
    assert {piece.shape for scene in sampled for piece in scene.clutter} == set(FRAGMENTS)
    assert {thing.texture.material for thing in things} == set(MATERIALS)
    assert {scene.background.material for scene in sampled} == set(MATERIALS)


def test_masks_are_disjoint_and_show_what_lies_on_top() -> None:
    below, above = plain("square", x=0.4), plain("circle", x=0.6)
    piece = plain("bar", x=0.6, size=0.1)
    seen = masks(Scene(WHITE, (below, above), (piece,)), size=SIZE)
    assert seen.dtype == bool and seen.shape == (2, SIZE, SIZE)
    assert seen.sum(0).max() == 1
    alone = [masks(Scene(WHITE, (thing,), ()), size=SIZE)[0] for thing in (below, above, piece)]
    assert (seen[1] == alone[1] & ~alone[2]).all()
    assert (seen[0] == alone[0] & ~alone[1] & ~alone[2]).all()


def test_masks_cover_what_is_drawn() -> None:
    """Pixels of a thing's colour are in its mask, pixels of the background are in none; blends may be in either."""
    scene = Scene(WHITE, (plain("star", angle=0.3),), ())
    picture, (mask,) = draw(scene, size=SIZE), masks(scene, size=SIZE)
    assert mask[(picture == (200, 36, 40)).all(-1)].all()
    assert not mask[(picture == (248, 248, 246)).all(-1)].any()
    for sampled in scenes(50):
        seen = masks(sampled, size=SIZE)
        assert seen.sum(0).max() <= 1
        # Take the things away, and the picture changes wherever one was seen.
        bare = draw(replace(sampled, things=()), size=SIZE)
        changed = (draw(sampled, size=SIZE) != bare).any(-1)
        assert changed[seen.any(0)].mean() > 0.99


@pytest.mark.parametrize(("width", "height"), [(1.0, 0.75), (0.75, 1.0)])
def test_pictures_end_at_their_width_and_height(width: float, height: float) -> None:
    for scene in scenes(10):
        cut = replace(scene, width=width, height=height)
        rows, columns = picture_shape(cut, size=SIZE)
        assert (rows, columns) == (height * SIZE, width * SIZE)
        assert (draw(cut, size=SIZE) == draw(scene, size=SIZE)[:rows, :columns]).all()
        assert (masks(cut, size=SIZE) == masks(scene, size=SIZE)[:, :rows, :columns]).all()


def test_things_are_set_off_from_those_that_they_may_touch() -> None:
    rng = generator(0, "test", 0)
    thing, near, far = plain("circle", x=0.5), plain("ring", x=0.6), plain("star", x=0.9, size=0.1)
    near = replace(near, texture=replace(near.texture, colour="blue", accent="green"))
    for _ in range(50):
        found = set_off(rng, thing, (near, far), ("blue", "green", "red", "black"))
        assert {found.texture.colour, found.texture.accent} == {"red", "black"}
        assert replace(found, texture=thing.texture) == thing
    # Where one colour would be left, all are taken.
    found = [set_off(rng, thing, (near, far), ("blue", "green", "red")).texture.colour for _ in range(50)]
    assert set(found) == {"blue", "green", "red"}


@pytest.mark.parametrize("shape", [*SHAPES, *FRAGMENTS])
def test_outlines_fill_their_bounding_circle_and_stay_inside_it(shape: str) -> None:
    outline = (SHAPES | FRAGMENTS)[shape]
    steps = np.linspace(-1.2, 1.2, 241, dtype=np.float32)
    u, v = np.meshgrid(steps, steps)
    reach = np.sqrt(u * u + v * v)[outline(u, v) < 0].max()
    assert 0.95 < reach <= 1.005


@pytest.mark.parametrize("shape", SHAPES)
def test_flipped_shapes_are_rotated_shapes(shape: str) -> None:
    """Flipping a picture keeps its class."""
    picture = draw(Scene(WHITE, (plain(shape),), ()), size=SIZE)
    about_u, about_v = picture[::-1], picture[:, ::-1]
    differences = [np.abs(picture.astype(int) - flipped).max() for flipped in (about_u, about_v)]
    assert min(differences) <= 2
