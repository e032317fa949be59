from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import backbones
from backbones.errors import InputError
from backbones.tokenizer import BOS, EOS, Tokenizer
from tasks.pretraining import sources
from tests.support.spm import train
from tests.tasks.pretraining.test_shards import samples, write

WORDS = Tokenizer(backbones.bundled_tokenizer("multiway_nano"))


def paint(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)


def karpathy(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": rows}))
    return path


def row(name: str, *texts: str, split: str = "train") -> dict:
    return {"filepath": "images", "filename": name, "split": split, "sentences": [{"raw": text} for text in texts]}


def test_images_are_found_in_subfolders_in_the_order_of_their_paths(tmp_path: Path) -> None:
    for name in ("b/2.PNG", "a/1.jpeg", "3.webp"):
        paint(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    assert [sample.id for sample in sources.read_images(tmp_path)] == ["3.webp", "a/1.jpeg", "b/2.PNG"]


def test_a_folder_with_one_image_is_refused(tmp_path: Path) -> None:
    paint(tmp_path / "1.png")
    with pytest.raises(InputError, match=r"has 1 image\(s\).*at least 2"):
        sources.read_images(tmp_path)


@pytest.mark.parametrize("place", ["dataset.json", "pairs/dataset.json"])
def test_a_pair_for_each_text_of_the_training_split(tmp_path: Path, place: str) -> None:
    """Beside the images' folder as COCO has it, or in a folder next to it."""
    paint(tmp_path / "images" / "1.png")
    rows = [row("1.png", "one", "two"), row("2.png", "three", split="restval"), row("3.png", "four", split="test")]
    found = sources.read_pairs(karpathy(tmp_path / place, rows))
    expected = [("1.png", "one"), ("1.png", "two"), ("2.png", "three")]
    assert [(sample.inputs["image"], sample.inputs["text"]) for sample in found] == [
        (str(tmp_path / "images" / name), text) for name, text in expected
    ]


def test_a_folder_of_pairs_is_read_by_the_pattern_of_its_files(tmp_path: Path) -> None:
    karpathy(tmp_path / "captions.json", [row("1.png", "one")])
    karpathy(tmp_path / "questions.json", [row("1.png", "why")])
    write(tmp_path / "shard-0.tar", samples(2))
    found = sources.read_pairs(tmp_path)
    assert [sample.inputs["text"] for sample in found] == ["one", "why", "picture 0", "picture 1"]
    assert [sample.inputs["text"] for sample in sources.read_pairs(tmp_path, pattern="capt*")] == ["one"]
    with pytest.raises(InputError, match="no pairs that match 'x\\*'"):
        sources.read_pairs(tmp_path, pattern="x*")


def test_texts_fill_rows_without_padding_and_each_token_is_in_one_row(tmp_path: Path) -> None:
    texts = ["a red star", "two blue circles and a ring", "", "there are five things"]
    (tmp_path / "a.txt").write_text("\n".join(texts[:2]))
    (tmp_path / "b.txt").write_text("\n".join(texts[2:]))
    rows = sources.read_texts(tmp_path, WORDS, length=7)
    stream = [token for text in texts if text for token in (*WORDS.encode(text), EOS)]
    assert rows.shape == (len(stream) // 5, 7)
    assert (rows[:, 0] == BOS).all()
    assert (rows[:, -1] == EOS).all()
    assert rows[:, 1:-1].ravel().tolist() == stream[: rows.shape[0] * 5]


@pytest.mark.parametrize(
    ("content", "reason"),
    [("", "holds no text"), ("\n \n", "holds no text"), ("one", "less than one row of 30")],
)
def test_texts_that_fill_no_row_are_refused(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "a.txt").write_text(content)
    with pytest.raises(InputError, match=reason):
        sources.read_texts(tmp_path / "a.txt", WORDS, length=32)


def test_texts_of_unknown_pieces_alone_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("ΩΩΩ ЖЖЖ\n" * 40, encoding="utf-8")
    words = Tokenizer(train(tmp_path / "small.spm", pieces=400, byte_fallback=False))
    with pytest.raises(InputError, match="knows no piece of the texts"):
        sources.read_texts(tmp_path / "a.txt", words, length=8)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"a\.txt is not readable UTF-8 text"):
        sources.read_texts(tmp_path / "a.txt", WORDS, length=8)


def test_what_a_recipe_needs_and_nobody_gave_is_named(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    found = sources.under(tmp_path)
    assert found.require("images") == tmp_path / "images"
    with pytest.raises(InputError, match=r"trains on pairs.*Give --pairs PATH"):
        found.require("pairs")


def test_rows_of_texts_are_whole_numbers_that_pickle_small(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a red star\n" * 50)
    assert sources.read_texts(tmp_path, WORDS, length=16).dtype == np.int32
