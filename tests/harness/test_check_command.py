"""`harness check` and `harness toy`: which splits, which marks, which names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness import toy_sets
from harness.cli import main
from tests.harness.test_cli import told


def test_one_split_is_looked_at_alone(colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "val").symlink_to(colours / "val")
    assert main(["check", "imagenet", "--data", str(tmp_path)]) == 1
    assert "FAIL" in capsys.readouterr().out
    assert main(["check", "imagenet", "--data", str(tmp_path), "--split", "val"]) == 0
    shown = capsys.readouterr().out
    assert "val: 13 images" in shown and "train" not in shown and "FAIL" not in shown
    assert main(["check", "imagenet", "--data", str(tmp_path), "--split", "vall"]) == 2
    assert "Did you mean val?" in told(capsys)


def test_the_files_of_other_splits_of_vqa_are_not_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["check", "vqav2", "--data", str(tmp_path), "--split", "val", "--json"]) == 1
    texts = " ".join(finding["text"] for finding in json.loads(capsys.readouterr().out)["vqav2"])
    assert "val2014: " in texts and "train2014: " not in texts and "test-dev2015" not in texts


def test_what_is_absent_and_not_needed_has_a_mark_of_its_own(colours: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["check", "imagenet", "--data", str(colours)]) == 0
    lines = capsys.readouterr().out.splitlines()
    (real,) = (line for line in lines if "no real.json" in line)
    assert real.split()[:2] == ["imagenet", "–"]
    assert [line.split()[1] for line in lines if "images" in line] == ["ok", "ok"]


def test_a_folder_that_is_absent_is_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["check", "imagenet", "--data", str(tmp_path / "nowhere")]) == 1
    assert f"There is no folder {tmp_path / 'nowhere'}." in told(capsys)


@pytest.mark.parametrize(
    ("names", "sets"),
    [
        (["coco_detection"], ["coco"]),
        (["vqav2", "flickr30k_zero_shot", "coco_captioning"], ["coco", "flickr30k"]),
        (["nocaps"], ["nocaps", "coco"]),  # which it trains on
        (["imagenet", "coco"], ["imagenet", "coco"]),
        ([], []),
    ],
)
def test_toy_data_by_the_names_of_tasks(names: list[str], sets: list[str]) -> None:
    assert toy_sets.sets(names) == sets


def test_a_toy_data_set_that_is_not_known(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["toy", str(tmp_path), "coco_detektion"]) == 2
    assert "Did you mean coco_detection" in told(capsys)
