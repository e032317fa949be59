"""Scenes to find things in: every thing is seen, few are seen whole."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from tasks.toy.draw import draw, masks
from tasks.toy.jumble import Jumble, sample_jumble
from tasks.toy.scene import FRAMES, generator
from tasks.toy.shapes import SHAPES

SIZE = 120


@pytest.fixture(scope="module")
def jumbles() -> list[Jumble]:
    return [sample_jumble(generator(0, "test", index), size=SIZE) for index in range(150)]


def test_pictures_are_the_same_on_every_machine(jumbles: list[Jumble]) -> None:
    digest = hashlib.sha256()
    for jumble in jumbles[:30]:
        digest.update(draw(jumble.scene, size=SIZE).tobytes())
    assert digest.hexdigest() == "67f62b8b9347c80114bd32a44a7bd7f52139f067ee2f71bb960719489486fc76"


def test_pictures_are_of_every_form(jumbles: list[Jumble]) -> None:
    assert {(jumble.scene.width, jumble.scene.height) for jumble in jumbles} == set(FRAMES)
    for jumble in jumbles[:20]:
        rows, columns, _ = draw(jumble.scene, size=SIZE).shape
        assert (columns, rows) == (jumble.scene.width * SIZE, jumble.scene.height * SIZE)
        assert masks(jumble.scene, size=SIZE).shape == (len(jumble.scene.things), rows, columns)


@pytest.mark.slow
def test_every_thing_is_seen(jumbles: list[Jumble]) -> None:
    """Two fifths of it at least, told by how much would be seen of it alone on a picture that nothing cuts."""
    for jumble in jumbles:
        areas = masks(jumble.scene, size=SIZE).sum((1, 2))
        for thing, area in zip(jumble.scene.things, areas, strict=True):
            size = int(np.ceil(2 * thing.size * SIZE))
            whole = replace(thing, size=thing.size * SIZE / size, x=0.5, y=0.5)
            alone = replace(jumble.scene, things=(whole,), clutter=(), width=1.0, height=1.0)
            assert area >= max(16, 0.35 * masks(alone, size=size).sum())


def test_some_pictures_are_empty_some_are_full(jumbles: list[Jumble]) -> None:
    counts = np.array([len(jumble.singles) for jumble in jumbles])
    assert 0.03 < (counts == 0).mean() < 0.15
    assert counts.max() == 6
    assert {thing.shape for jumble in jumbles for thing in jumble.scene.things} == set(SHAPES)


def test_crowds_are_many_small_things_of_one_shape_in_one_place(jumbles: list[Jumble]) -> None:
    crowds = [jumble.scene.things[len(jumble.singles) :] for jumble in jumbles if jumble.crowd]
    assert 8 < len(crowds) < 40
    for crowd in crowds:
        assert len({thing.shape for thing in crowd}) == 1
        assert 5 <= len(crowd) <= 24
        assert max(np.ptp([thing.x for thing in crowd]), np.ptp([thing.y for thing in crowd])) < 0.35
        assert max(thing.size for thing in crowd) < 0.2


def test_things_that_may_touch_share_few_colours(jumbles: list[Jumble]) -> None:
    """By lot, a colour of the one would be a colour of the other in nearly half of the pairs."""
    shared = [
        bool({one.texture.colour, one.texture.accent} & {other.texture.colour, other.texture.accent})
        for jumble in jumbles
        for index, one in enumerate(jumble.singles)
        for other in jumble.singles[:index]
        if np.hypot(one.x - other.x, one.y - other.y) < (one.size + other.size) / 2
    ]
    assert len(shared) > 300
    assert np.mean(shared) < 0.2
