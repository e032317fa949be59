"""Obstacles that would stop a run after hours are reported before anything is read: most data folders are empty."""

from __future__ import annotations

import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

import backbones
import harness
from backbones import InputError, UsageError
from harness import preflight
from harness.experiment import plan
from tasks.captioning import java, spice
from tests.conftest import FAST

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def no_java(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(java, "_programs", lambda: iter(()))


@pytest.fixture
def call(spm: Path, tmp_path: Path) -> Callable[..., object]:
    (tmp_path / "empty").mkdir()

    def run(verb: Callable = harness.run, task: str = "coco_captioning", **options: object) -> object:
        shared = {"backbone": "multiway_nano", "data": tmp_path / "empty", "out": tmp_path / "out", "changes": FAST}
        return verb(task, **shared | ({"tokenizer": spm} if task == "coco_captioning" else {}) | options)

    return run


@pytest.mark.usefixtures("no_java")
def test_captioning_without_java_ends_before_the_training(call: Callable, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Caption scores need Java"):
        call()
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("no_java")
def test_java_is_asked_for_by_scores_only(call: Callable, tmp_path: Path) -> None:
    (tmp_path / "weights.pth").touch()
    with pytest.raises(InputError, match="No COCO captions"):
        call(harness.predict, weights=tmp_path / "weights.pth")
    with pytest.raises(InputError, match="image_info_test2014"):
        call(split="test2014", weights=tmp_path / "weights.pth", changes=["epochs=0"])


def test_the_absence_of_spice_is_told_at_the_start(call: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(preflight, "note", told.append)
    monkeypatch.setattr(spice, "obstacle", lambda: "SPICE needs two files")
    with pytest.raises(InputError, match="No COCO captions"):
        call()
    assert told == ["coco_captioning: there will be no SPICE score. SPICE needs two files."]


def test_a_foreign_tokenizer_is_told_before_the_data_are_read(call: Callable, tmp_path: Path) -> None:
    (tmp_path / "page.spm").write_text("<html>")
    with pytest.raises(InputError, match="not a sentencepiece model"):
        call(tokenizer=tmp_path / "page.spm")


def test_a_batch_that_does_not_fit_is_told_before_the_data_are_read(call: Callable) -> None:
    with pytest.raises(UsageError, match="micro_batch=4"):
        call(task="imagenet", changes=[*FAST, "micro_batch=5"])


@pytest.mark.parametrize("verb", ["run", "predict"])
def test_a_full_disk_is_told_before_there_is_a_folder(
    verb: str, colours: Path, call: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**40, 2**40, 1000))
    options = {"weights": tmp_path / "weights.pth"} if verb == "predict" else {}
    for path in options.values():
        path.touch()
    with pytest.raises(InputError, match="GiB are free there"):
        call(getattr(harness, verb), task="imagenet", data=colours, **options)
    assert not (tmp_path / "out").exists()


def test_the_estimate_is_what_two_checkpoints_take(colours: Path, tmp_path: Path) -> None:
    options = {"backbone": "multiway_nano", "data": colours, "out": tmp_path, "changes": FAST}
    experiment = plan("imagenet", **options)
    weights = 4 * sum(parameter.numel() for parameter in backbones.build("multiway_nano").parameters())
    assert preflight.needed(experiment, samples=13) == 6 * weights
    averaged = plan("imagenet", **options | {"changes": [*FAST, "ema_decay=0.9"]})
    assert preflight.needed(averaged, samples=13) == 8 * weights
    final = experiment.folder / "checkpoints" / "final.safetensors"
    final.parent.mkdir(parents=True)
    final.touch()
    assert preflight.needed(experiment, samples=13) == 13_000  # fine-tuned already: predictions alone


def test_segmentation_counts_its_maps(tmp_path: Path) -> None:
    weights = tmp_path / "weights.pth"
    weights.touch()
    maps = plan("ade20k", backbone="multiway_nano", data=tmp_path, weights=weights, changes=["epochs=0"])
    assert preflight.needed(maps, samples=2000) == 2 * 2000 * 60_000


def test_an_interrupted_runs_checkpoint_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = plan("imagenet", backbone="multiway_nano", data=tmp_path, out=tmp_path / "out")
    whole = preflight.needed(experiment, samples=1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**40, 0, whole - 1000))
    with pytest.raises(InputError, match="GiB are free there"):
        preflight.require_space(experiment, samples=1)
    last = experiment.folder / "checkpoints" / "last.pth"
    last.parent.mkdir(parents=True)
    last.write_bytes(bytes(1000))
    preflight.require_space(experiment, samples=1)
