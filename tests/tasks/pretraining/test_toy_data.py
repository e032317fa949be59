from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.pretraining import sources, toy_data
from tasks.toy.phrases import NUMBERS
from tasks.toy.scene import COLOURS, generator, sample_scene
from tasks.toy.shapes import SHAPES
from tests.tasks.pretraining.test_sources import WORDS

SCALE = 0.001


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_data.write(tmp_path_factory.mktemp("pretraining") / "toy", scale=SCALE)


def test_it_is_read_as_any_data(drawn: Path) -> None:
    found = sources.under(drawn)
    images, pairs = sources.read_images(found.images), sources.read_pairs(found.pairs)
    paths = {Path(sample.inputs["image"]) for sample in pairs}
    assert paths <= {Path(sample.inputs["image"]) for sample in images}
    assert all(path.is_file() for path in paths)
    assert {path.parent.name for path in paths} == {"still_life", "subject", "jumble", "landscape"}
    assert len(sources.read_texts(found.texts, WORDS, length=32)) > 0
    for sample in images:
        with Image.open(sample.inputs["image"]) as image:
            assert image.size == (toy_data.TILE, toy_data.TILE)


def test_the_words_are_known_to_the_bundled_tokenizer(drawn: Path) -> None:
    for sample in sources.read_pairs(drawn / "pairs"):
        assert WORDS.decode(WORDS.encode(sample.inputs["text"])) == sample.inputs["text"]


def test_the_caption_of_a_subject_is_true_of_it(drawn: Path) -> None:
    rows = json.loads((drawn / "pairs" / "captions.json").read_text())["images"]
    for index, row in enumerate(row for row in rows if row["filepath"].endswith("subject")):
        scene = sample_scene(generator(0, "pretraining/subject", index))
        own = {scene.subject.texture.colour, scene.subject.texture.accent}
        assert len({sentence["raw"] for sentence in row["sentences"]}) == toy_data.SUBJECT_CAPTIONS
        for words in (sentence["raw"].split() for sentence in row["sentences"]):
            assert set(SHAPES) & set(words) == {scene.subject.shape}
            before = words[: words.index("before")] if "before" in words else words
            assert set(COLOURS) & set(before) <= own


def test_a_caption_of_a_tile_names_what_is_on_it(drawn: Path) -> None:
    """As many things of a shape as a count of the drawing's own masks says."""
    from tasks.toy.draw import masks
    from tasks.toy.jumble import sample_jumble

    rows = json.loads((drawn / "pairs" / "captions.json").read_text())["images"]
    tiles = {row["filename"]: row["sentences"][0]["raw"] for row in rows if row["filepath"].endswith("jumble")}
    assert tiles
    scene = sample_jumble(generator(0, "pretraining/jumble", 0), size=240).scene
    seen = masks(scene, size=240)
    columns = seen.shape[2] // toy_data.TILE
    for number in range(columns * (seen.shape[1] // toy_data.TILE)):
        top, left = (toy_data.TILE * part for part in divmod(number, columns))
        areas = seen[:, top : top + toy_data.TILE, left : left + toy_data.TILE].sum((1, 2))
        shapes = [thing.shape for thing, area in zip(scene.things, areas, strict=True) if area >= toy_data.SEEN]
        caption = tiles.get(f"000000-{number}.jpg", "")
        assert (caption == "") == (not shapes)
        for shape in set(shapes):
            count = shapes.count(shape)
            assert (f" {shape}" if count == 1 else f"{NUMBERS[count]} {shape}") in f" {caption}"


def test_done_again_it_draws_nothing_and_elsewhere_the_same(drawn: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in drawn.rglob("*")}
    toy_data.write(drawn, scale=SCALE)
    assert {path: path.stat().st_mtime_ns for path in drawn.rglob("*")} == before
    other = toy_data.write(tmp_path / "other", scale=SCALE)
    for path in drawn.rglob("*"):
        if path.is_file():
            assert (other / path.relative_to(drawn)).read_bytes() == path.read_bytes()


def test_no_picture_of_a_benchmark_is_among_them(drawn: Path) -> None:
    """Streams of random numbers have names, and none of the benchmarks' begins as these do."""
    from tasks.toy.still_life import Palette, sample_still_life

    own = sample_still_life(generator(0, "pretraining/still_life", 0), Palette())
    with Image.open(drawn / "images" / "still_life" / "000000.jpg") as image:
        pixels = np.asarray(image)
    assert pixels.shape == (toy_data.TILE, toy_data.TILE, 3)
    for stream in ("coco/train2014", "coco/val2014", "flickr30k/train", "flickr30k/test"):
        assert sample_still_life(generator(0, stream, 0), Palette()) != own
