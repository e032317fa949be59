"""The toy set in the form of ADE20K: its files, its maps against the pictures, and what colours alone tell."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks import toy
from tasks.toy import ade20k
from tasks.toy.draw import draw
from tasks.toy.landscape import Landscape, sample_landscape
from tasks.toy.scene import MATERIALS, Scene, generator
from tasks.toy.shapes import SHAPES

pytestmark = pytest.mark.slow  # draws pictures

SPLITS = {"training": "ADE_train", "validation": "ADE_val"}
SIZE = 160
WORDS = {"solid": "plain", "gradient": "shaded", "noisy": "blotchy"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 and 30 pictures of the default size. Read only."""
    return toy.write(tmp_path_factory.mktemp("toy"), tasks=("ade20k",), scale=0.2)["ade20k"]


@pytest.fixture(scope="module")
def maps(folder: Path) -> dict[str, list[np.ndarray]]:
    return {split: [opened(path) for path in sorted((folder / "annotations" / split).iterdir())] for split in SPLITS}


def opened(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def landscape(split: str, index: int) -> Landscape:
    return sample_landscape(
        generator(0, f"ade20k/{split}", index),
        material=MATERIALS[(index + index // 30) % 6],
        subject=list(SHAPES)[index % 10],
    )


def changed(scene: Scene, other: Scene) -> np.ndarray:
    return np.abs(draw(scene, size=SIZE).astype(int) - draw(other, size=SIZE)).max(-1)


def info(folder: Path) -> list[list[str]]:
    return [line.split("\t") for line in (folder / "objectInfo150.txt").read_text().splitlines()]


def label_of(folder: Path, name: str) -> int:
    """The number of the class that is called `name` or `name` surface, from the table."""
    word = WORDS.get(name, name)
    (found,) = (row[0] for row in info(folder)[1:] if row[5].split(", ")[0] in (word, f"{word} surface"))
    return int(found)


@pytest.mark.parametrize(("split", "count"), [("training", 160), ("validation", 30)])
def test_each_picture_has_a_map_of_its_size(folder: Path, truth: Path, split: str, count: int) -> None:
    with Image.open(truth / "ade20k" / "annotations" / "ADE_val_00000001.png") as real:
        form = real.format, real.mode
    stems = [f"{SPLITS[split]}_{number:08d}" for number in range(1, count + 1)]
    assert sorted(path.name for path in (folder / "images" / split).iterdir()) == [f"{stem}.jpg" for stem in stems]
    assert sorted(path.name for path in (folder / "annotations" / split).iterdir()) == [f"{stem}.png" for stem in stems]
    sizes = set()
    for stem in stems:
        with (
            Image.open(folder / "images" / split / f"{stem}.jpg") as image,
            Image.open(folder / "annotations" / split / f"{stem}.png") as labels,
        ):
            assert (labels.format, labels.mode) == form == ("PNG", "L")
            assert (image.format, image.mode) == ("JPEG", "RGB")
            assert image.size == labels.size
            sizes.add(image.size)
    assert sizes == {(160, 120), (120, 160), (160, 160)}


def test_the_table_of_classes_counts_what_the_maps_show(folder: Path, maps: dict[str, list[np.ndarray]]) -> None:
    head, *rows = info(folder)
    assert head == ["Idx", "Ratio", "Train", "Val", "Stuff", "Name"]
    assert [row[0] for row in rows] == [str(number) for number in range(1, 17)]
    everything = np.concatenate([labels.ravel() for labels in maps["training"]])
    for number, ratio, train, val, stuff, name in rows:
        assert float(ratio) == pytest.approx((everything == int(number)).mean(), abs=5.1e-5)
        assert int(train) == sum((labels == int(number)).any() for labels in maps["training"]) > 20
        assert int(val) == sum((labels == int(number)).any() for labels in maps["validation"]) > 3
        assert stuff == str(int("surface" in name))
    assert {label_of(folder, name) for name in (*MATERIALS, *SHAPES)} == set(range(1, 17))
    assert set(np.unique(everything)) == set(range(17))


def test_every_class_is_in_both_splits_however_few_the_pictures(tmp_path: Path) -> None:
    folder = toy.write(tmp_path, tasks=("ade20k",), scale=1e-6)["ade20k"]
    for row in info(folder)[1:]:
        assert int(row[2]) > 0 and int(row[3]) > 0
    assert len(list(folder.rglob("*.png"))) == 24


def test_every_material_comes_with_every_shape() -> None:
    """Classes go in turn; had the turns a common measure, the background would give the thing away."""
    scenes = [landscape("training", index).scene for index in range(60)]
    assert len({(scene.background.material, scene.things[-1].shape) for scene in scenes}) == 60


def test_scene_categories_name_each_picture(folder: Path) -> None:
    rows = [line.split() for line in (folder / "sceneCategories.txt").read_text().splitlines()]
    stems = [path.stem for split in SPLITS for path in sorted((folder / "images" / split).iterdir())]
    assert [row[0] for row in rows] == stems
    assert {len(row) for row in rows} == {2}
    assert Counter(row[1] for row in rows).keys() == {"wall", "plain", "hill", "corner", "hills"}


@pytest.mark.parametrize("split", SPLITS)
def test_no_two_classes_touch(maps: dict[str, list[np.ndarray]], split: str) -> None:
    for labels in maps[split]:
        for one, other in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
            assert ((one == other) | (one == 0) | (other == 0)).all()
    unlabelled = np.mean([(labels == 0).mean() for labels in maps[split]])
    assert 0.05 < unlabelled < 0.15


@pytest.mark.parametrize("split", SPLITS)
def test_maps_say_what_the_pictures_show(folder: Path, maps: dict[str, list[np.ndarray]], split: str) -> None:
    """Make a thing pink or black: the picture changes where the map names it. Take the clutter away: where it is 0."""
    for index, labels in list(enumerate(maps[split]))[:45:2]:
        found = landscape(split, index)
        scene = found.scene
        bare = replace(scene, clutter=())
        assert not labels[changed(scene, bare) > 128].any()
        for layer in range(len(scene.things)):
            thing = scene.things[layer]
            seen = changed(*(painted(scene, layer, colour) for colour in ("pink", "black")))
            whole = seen == seen.max() if seen.max() > 100 else np.zeros(seen.shape, bool)
            label = label_of(folder, thing.texture.material if layer < found.surfaces else thing.shape)
            assert set(np.unique(labels[whole])) <= {0, label}
            if whole.sum() > 400:
                assert (labels[whole] == label).mean() > 0.5
            assert not (labels[seen == 0] == label).any() or duplicates(found, label, folder) > 1


def painted(scene: Scene, layer: int, colour: str) -> Scene:
    """With one thing in one colour."""
    thing = scene.things[layer]
    plain = replace(thing, texture=replace(thing.texture, material="solid", colour=colour))
    return replace(scene, things=(*scene.things[:layer], plain, *scene.things[layer + 1 :]))


def duplicates(found: Landscape, label: int, folder: Path) -> int:
    names = [found.scene.background.material]
    names += [thing.texture.material for thing in found.scene.things[: found.surfaces]]
    names += [thing.shape for thing in found.scene.things[found.surfaces :]]
    return sum(label_of(folder, name) == label for name in names)


def test_plain_surfaces_are_plain_in_the_files(folder: Path, maps: dict[str, list[np.ndarray]]) -> None:
    """From the JPEG files: the pixels of a plain surface have one colour, those of a striped one have two."""
    plain, striped = label_of(folder, "solid"), label_of(folder, "striped")
    spreads = {plain: [], striped: []}
    for split in SPLITS:
        for number, labels in enumerate(maps[split], 1):
            picture = opened(folder / "images" / split / f"{SPLITS[split]}_{number:08d}.jpg")
            for label, found in spreads.items():
                if (labels == label).sum() > 500:
                    found.append(picture[labels == label].std(0).max())
    assert len(spreads[plain]) > 40 and max(spreads[plain]) < 12
    assert len(spreads[striped]) > 40 and min(spreads[striped]) > 20


def test_colour_alone_tells_next_to_nothing(folder: Path, maps: dict[str, list[np.ndarray]]) -> None:
    """The most frequent class of each of 512 colours is right for 23 % of the pixels, with a mean IoU of 5 %.

    The most frequent class of all has 16 % of the pixels; blends of two colours are of shaded or blotchy surfaces.
    """
    counts = np.zeros((512, 17))
    confusion = np.zeros((17, 17))
    for split in SPLITS:
        for number, labels in enumerate(maps[split], 1):
            picture = opened(folder / "images" / split / f"{SPLITS[split]}_{number:08d}.jpg")
            codes = (picture // 32).astype(int) @ [64, 8, 1]
            if split == "training":
                np.add.at(counts, (codes, labels), 1)
            else:
                np.add.at(confusion, (labels, counts[:, 1:].argmax(1)[codes] + 1), 1)
    confusion = confusion[1:, 1:]
    hits = np.diag(confusion)
    union = confusion.sum(0) + confusion.sum(1) - hits
    accuracy, mean_iou = hits.sum() / confusion.sum(), (hits / union).mean()
    assert accuracy < 0.26 and mean_iou < 0.07
    assert (hits / union)[6:].max() < 0.02  # no thing is found


def test_classes_are_named_once() -> None:
    assert len(set(ade20k.CLASSES)) == len(ade20k.CLASSES) == 16
    assert not set(ade20k.NAMES) - set(ade20k.CLASSES)
