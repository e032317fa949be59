"""Scenes of surfaces and things: every surface and outline is to be seen, and no colour belongs to a class."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from tasks.toy.draw import draw, masks
from tasks.toy.landscape import LAYOUTS, PAINTS, Landscape, sample_landscape
from tasks.toy.scene import FRAMES, MATERIALS, generator
from tasks.toy.shapes import SHAPES

SIZE = 96


@pytest.fixture(scope="module")
def landscapes() -> list[Landscape]:
    shapes = list(SHAPES)
    return [
        sample_landscape(generator(0, "test", index), material=MATERIALS[index % 6], subject=shapes[index % 10])
        for index in range(120)
    ]


def test_pictures_are_the_same_on_every_machine(landscapes: list[Landscape]) -> None:
    digest = hashlib.sha256()
    for landscape in landscapes[:30]:
        digest.update(draw(landscape.scene, size=SIZE).tobytes())
    assert digest.hexdigest() == "403a26a70555b5971b077bd72b5de75e66df0c7a3e68f228f92baa8a25472758"


def test_pictures_are_of_every_form(landscapes: list[Landscape]) -> None:
    assert {(landscape.scene.width, landscape.scene.height) for landscape in landscapes} == set(FRAMES)
    assert {landscape.layout for landscape in landscapes} == set(LAYOUTS)


def test_the_background_and_the_foremost_thing_are_the_wanted_ones(landscapes: list[Landscape]) -> None:
    shapes = list(SHAPES)
    for index, landscape in enumerate(landscapes):
        assert landscape.scene.background.material == MATERIALS[index % 6]
        assert landscape.scene.things[-1].shape == shapes[index % 10]
        assert masks(landscape.scene, size=SIZE)[-1].sum() > 100


def test_surfaces_have_different_patterns_and_are_seen(landscapes: list[Landscape]) -> None:
    """Of a round top behind another there may be nothing left."""
    unseen = 0
    for landscape in landscapes:
        surfaces = landscape.scene.things[: landscape.surfaces]
        materials = [landscape.scene.background.material, *(surface.texture.material for surface in surfaces)]
        assert len(set(materials)) == len(materials) == landscape.surfaces + 1
        seen = masks(landscape.scene, size=SIZE)
        areas = [*seen[: landscape.surfaces].mean((1, 2)), (~seen.any(0)).mean()]
        unseen += min(areas) < 0.03
    assert unseen < 0.1 * len(landscapes)


def test_edges_of_surfaces_run_from_side_to_side(landscapes: list[Landscape]) -> None:
    """Below a straight edge the surface goes on to the lower corners."""
    for landscape in landscapes:
        if landscape.layout in ("plain", "corner"):
            scene = landscape.scene
            bare = type(scene)(scene.background, scene.things[: landscape.surfaces], (), scene.width, scene.height)
            last = masks(bare, size=SIZE)[-1]
            assert last[-1].all() and not last[0].any()
            assert (np.diff(last.astype(int), axis=0) >= 0).all()


def test_colours_of_a_surface_are_nobody_elses(landscapes: list[Landscape]) -> None:
    for landscape in landscapes:
        scene = landscape.scene
        surfaces = (scene.background, *(surface.texture for surface in scene.things[: landscape.surfaces]))
        rest = {thing.texture for thing in (*scene.things[landscape.surfaces :], *scene.clutter)}
        taken = [colour for texture in surfaces for colour in (texture.colour, texture.accent)]
        assert len(set(taken)) == len(taken)
        assert not set(taken) & {colour for texture in rest for colour in (texture.colour, texture.accent)}


def test_surfaces_and_things_are_of_all_colours_and_patterns(landscapes: list[Landscape]) -> None:
    surfaces = {thing.texture for one in landscapes for thing in one.scene.things[: one.surfaces]}
    surfaces |= {one.scene.background for one in landscapes}
    things = {thing.texture for one in landscapes for thing in one.scene.things[one.surfaces :]}
    for textures in (surfaces, things):
        assert {texture.colour for texture in textures} == set(PAINTS)
        assert {texture.material for texture in textures} == set(MATERIALS)
