"""Hints at the right data folder, for a task that is given one too high or too low."""

from __future__ import annotations

from pathlib import Path

import pytest

import tasks
from backbones.errors import InputError
from tasks.common.nearby import nearby


@pytest.mark.parametrize("given", ["real", "real/coco/val2014", "real/coco/val2014/deep", "."])
def test_a_folder_one_or_two_levels_off_is_named(given: str, tmp_path: Path) -> None:
    (tmp_path / "real" / "coco" / "val2014" / "deep").mkdir(parents=True)
    (tmp_path / "real" / "coco" / "dataset_coco.json").write_text("{}")
    folder = tmp_path / "real" / "coco"
    assert nearby(tmp_path / given, "absent.json", "dataset_coco.json") == (
        f" dataset_coco.json is in {folder}: did you mean --data {folder}?"
    )
    assert nearby(tmp_path / given, "absent.json") == ""


@pytest.mark.parametrize(
    ("task", "file"),
    [
        ("coco_captioning", "dataset_coco.json"),
        ("flickr30k_retrieval", "dataset_flickr30k.json"),
        ("vqav2", "vqa/v2_OpenEnded_mscoco_train2014_questions.json"),
        ("nlvr2", "nlvr/nlvr2/data/train.json"),
    ],
)
def test_the_error_of_an_absent_file_ends_with_the_hint(task: str, file: str, tmp_path: Path) -> None:
    (tmp_path / "here" / "images").mkdir(parents=True)
    (tmp_path / "here" / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "here" / file).write_text("{}")
    with pytest.raises(InputError, match=f"did you mean --data {tmp_path / 'here'}\\?$"):
        tasks.get(task).samples(tmp_path / "here" / "images", "train")
