from __future__ import annotations

import json
from pathlib import Path

import pytest

import tasks
from backbones import InputError, UsageError
from tests.tasks.reasoning.files import DATA, statements, write_index

ADAPTER = tasks.get("nlvr2")


def test_layouts_agree(folder: Path) -> None:
    samples = ADAPTER.samples(folder, "train")
    assert len(samples) == 16
    assert samples[5].id == "train-1-0-1"
    assert samples[5].inputs["images"] == ["images/train/1/train-1-0-img0.png", "images/train/1/train-1-0-img1.png"]
    assert samples[5].annotation == {"label": 0}
    write_index(folder, "dev")
    read = ADAPTER.samples(folder, "dev")
    (folder / DATA / "dev.json").unlink()
    from_index = ADAPTER.samples(folder, "dev")
    assert [(s.id, s.inputs["images"], s.annotation) for s in from_index] == [
        (s.id, s.inputs["images"], s.annotation) for s in read
    ]
    assert from_index[0].inputs["text"] == [7, 8, 9]


def test_the_second_test_set_is_the_split_test_u(folder: Path) -> None:
    statements(folder, "test-U", sets=1)
    samples = ADAPTER.samples(folder, "test-U")
    assert [s.id for s in samples] == ["test2-0-0-0", "test2-0-0-1", "test2-0-1-0", "test2-0-1-1"]
    assert samples[0].inputs["images"] == ["test2/test2-0-0-img0.png", "test2/test2-0-0-img1.png"]
    assert ADAPTER.samples(folder, "test-P")[0].id == "test1-0-0-0"


def test_an_index_row_with_one_image_is_told(folder: Path) -> None:
    write_index(folder, "dev")
    (folder / DATA / "dev.json").unlink()
    index = folder / "nlvr2.dev.index.jsonl"
    lines = index.read_text().splitlines()
    row = json.loads(lines[3])
    del row["image2_path"]
    index.write_text("\n".join([*lines[:3], json.dumps(row), *lines[4:]]))
    with pytest.raises(InputError, match="line 4 has no field 'image2_path'"):
        ADAPTER.samples(folder, "dev")


def test_wrong_annotations_are_told(folder: Path) -> None:
    file = folder / DATA / "dev.json"
    good = file.read_text()
    file.write_text(good.replace('"True"', '"Maybe"', 1))
    with pytest.raises(InputError, match="dev-0-0-0 is 'Maybe'"):
        ADAPTER.samples(folder, "dev")
    file.write_text(good + good.splitlines()[0])
    with pytest.raises(InputError, match=r"1 identifier\(s\) twice: dev-0-0-0"):
        ADAPTER.samples(folder, "dev")
    file.unlink()
    with pytest.raises(InputError, match="clone lil-lab/nlvr"):
        ADAPTER.samples(folder, "dev")
    with pytest.raises(UsageError, match="test-P"):
        ADAPTER.samples(folder, "test-Q")
