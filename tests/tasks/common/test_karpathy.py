from __future__ import annotations

from pathlib import Path

import pytest

from backbones import InputError
from tasks.common.karpathy import Sentence, read_coco, read_flickr30k
from tests.tasks.captioned import edit, write_coco, write_flickr30k


def test_coco_goes_by_cocoid_and_trains_on_restval_too(tmp_path: Path) -> None:
    root = write_coco(tmp_path)
    counts = {split: len(read_coco(root, split)) for split in ("train", "val", "test")}
    assert counts == {"train": 12, "val": 4, "test": 8}
    train = read_coco(root, "train")
    assert [image.split for image in train[:3]] == ["train", "train", "restval"]
    image = read_coco(root, "test")[1]
    assert (image.id, image.path) == ("505", "val2014/COCO_val2014_000000000505.jpg")
    assert image.sentences == [
        Sentence("50", "A blue picture, 5."),  # as it was written
        Sentence("51", "number 5 is blue"),
        Sentence("52", "Three words for blue: 5 5 5"),
    ]


def test_flickr30k_goes_by_imgid(tmp_path: Path) -> None:
    root = write_flickr30k(tmp_path)
    assert {split: len(read_flickr30k(root, split)) for split in ("train", "val", "test")} == {
        "train": 8,
        "val": 4,
        "test": 4,
    }
    assert read_flickr30k(root, "test")[0][:3] == ("3", "flickr30k-images/7003.jpg", "test")


def test_an_absent_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"dataset_coco.json \(the Karpathy split\) is absent"):
        read_coco(tmp_path, "test")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[3].pop("cocoid"), r"dataset_coco.json, image 3 has no field 'cocoid'"),
        (lambda rows: rows[3]["sentences"][1].pop("raw"), r"image 3 has no field 'raw'"),
        (
            lambda rows: rows[3]["sentences"][1].update(raw=None),
            r"image 3: the text of sentence 31 is None, not a text",
        ),
        (lambda rows: rows[3].update(cocoid=501), r"has 1 cocoid\(s\) twice: 501"),
        (lambda rows: rows[3]["sentences"][0].update(sentid=10), r"has 1 sentid\(s\) twice: 10"),
        (lambda rows: rows.insert(2, ["x"]), r"image 2 has no field 'filename'"),
    ],
)
def test_a_wrong_annotation_is_told_with_its_place(tmp_path: Path, change, message: str) -> None:
    root = write_coco(tmp_path)
    edit(root / "dataset_coco.json", change)
    with pytest.raises(InputError, match=message):
        read_coco(root, "test")


def test_another_json_is_told(tmp_path: Path) -> None:
    (tmp_path / "dataset_coco.json").write_text('{"annotations": []}')
    with pytest.raises(InputError, match="has no field 'images'"):
        read_coco(tmp_path, "test")
