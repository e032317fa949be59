from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tasks
from backbones import InputError
from backbones.multiway import Multiway
from harness.provenance import data_sha256
from tasks.adapter import TaskContext
from tasks.classification.annotations import class_names, read_samples
from tasks.classification.recipes import RECIPES
from tasks.common.images import open_image
from tests.backbones.test_multiway import SMALL
from tests.support.shards import of_class_folders, png
from tests.support.shards import write as write_shard
from tests.tasks.classification.indexes import write_index

ADAPTER = tasks.get("imagenet")


BARE = dataclasses.replace(SMALL, final_norm=False)


def test_models_have_an_output_for_each_label(folders: Path) -> None:
    context = TaskContext(root=folders, recipe=RECIPES["nano"], labels=["a", "b"])
    assert ADAPTER.model(Multiway(BARE), context).head.out_features == 2


def test_both_layouts_give_the_same_samples(folders: Path) -> None:
    for split, count in (("train", 24), ("val", 13)):
        before = ADAPTER.samples(folders, split)
        assert len(before) == count
        assert before[0] == (f"{split}/class0/0000.JPEG", f"{split}/class0/0000.JPEG", {"label": 0})
        write_index(folders, split, slash="/")  # as official index files may have it
        assert ADAPTER.samples(folders, split) == before
    assert ADAPTER.labels(folders) == ["class0", "class1", "class2"]


def test_a_missing_or_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"neither train/<class>/<image> nor imagenet\.train"):
        ADAPTER.samples(tmp_path, "train")
    (tmp_path / "train").mkdir()
    with pytest.raises(InputError, match="has no class folders"):
        ADAPTER.samples(tmp_path, "train")


def test_a_class_folder_without_images(folders: Path) -> None:
    (folders / "train" / "class9").mkdir()
    with pytest.raises(InputError, match="class9 has no images"):
        ADAPTER.samples(folders, "train")


def test_a_validation_class_that_training_lacks(folders: Path) -> None:
    shutil.copytree(folders / "val" / "class0", folders / "val" / "class9")
    with pytest.raises(InputError, match="class9 is not among those of"):
        ADAPTER.samples(folders, "val")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("not json", r"\(the official index of images\) is not JSON: 'not json'"),
        ('{"image_path": "val/class0/0000.JPEG"}', "has no field 'label'"),
        ("[1, 2]", "has no field 'image_path'"),
        ('{"image_path": "val/class0/0000.JPEG", "label": "cat"}', "is not of the form"),
    ],
)
def test_an_index_line_of_another_form(folders: Path, line: str, complaint: str) -> None:
    write_index(folders, "val")
    with (folders / "imagenet.val.index.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(InputError, match=rf"imagenet\.val\.index\.jsonl, line 14 {complaint}"):
        ADAPTER.samples(folders, "val")


@pytest.mark.parametrize("label", [3, -1])
def test_a_label_out_of_range(folders: Path, label: int) -> None:
    write_index(folders, "train")
    file = folders / "imagenet.train.index.jsonl"
    lines = file.read_text().splitlines()
    lines[4] = json.dumps({"image_path": "train/class0/0000.JPEG", "label": label})
    file.write_text("\n".join(lines))
    with pytest.raises(InputError, match=f"line 5: label {label} of .* out of range: there are 3 classes, 0 to 2"):
        ADAPTER.samples(folders, "train")


@pytest.fixture
def sharded(colours: Path, tmp_path: Path) -> Path:
    """The data set in shards of five."""
    return of_class_folders(colours, tmp_path / "sharded", per_shard=5)


def test_shards_hold_the_samples_of_the_class_folders(colours: Path, sharded: Path) -> None:
    adapter = tasks.get("imagenet")
    assert class_names(sharded) == class_names(colours)
    for split in ("train", "val"):
        folders = {sample.id: sample for sample in read_samples(colours, split)}
        found = read_samples(sharded, split)
        assert {sample.id: sample.annotation for sample in found} == {
            name: sample.annotation for name, sample in folders.items()
        }
        for sample in found:
            with Image.open(colours / sample.id) as image:
                assert np.array_equal(np.asarray(open_image(sharded / sample.inputs)), np.asarray(image))
        again = [folders[sample.id] for sample in found]
        assert data_sha256(adapter, found, sharded) == data_sha256(adapter, again, colours)
        assert {file for sample in found for file in adapter.image_files(sample)} == {
            path.name for path in sharded.glob(f"{split}-*.tar")
        }
    assert all(finding.ok for finding in adapter.check(sharded, decode=True, progress=lambda things, _: things))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a.png": png(1)}, "has no class"),
        ({"a.png": png(1), "a.cls": b"cat"}, "has no class"),
        ({"a.png": png(1), "a.cls": b"3"}, "label 3 of train/3/a.png is out of range"),
        ({"a.cls": b"1"}, "has no image"),
        ({"x/a.png": png(1), "x/a.cls": b"1", "y/a.png": png(1), "y/a.cls": b"1"}, "another train/class1/a.png"),
    ],
)
def test_wrong_samples_of_shards_are_told(sharded: Path, members: dict[str, bytes], message: str) -> None:
    write_shard(sharded / "train-000.tar", members)
    with pytest.raises(InputError, match=message):
        read_samples(sharded, "train")


@pytest.mark.parametrize("text", [None, "a\n\nb\n", "a\na\n"])
def test_shards_need_the_names_of_the_classes(sharded: Path, text: str | None) -> None:
    file = sharded / "classes.txt"
    file.unlink() if text is None else file.write_text(text)
    with pytest.raises(InputError, match=r"classes\.txt"):
        read_samples(sharded, "train")
