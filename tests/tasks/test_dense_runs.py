"""Whole runs of segmentation and detection: interrupted, shared among processes, on photographs and odd images."""

from __future__ import annotations

import csv
import io
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

import harness
import tasks
from harness import checkpoint, loop
from harness.cli import main
from harness.experiment import plan
from harness.predictions import PredictionWriter, read
from leaderboards.rows import ResultRow
from tests.support import instances, label_maps, processes
from tests.support.photographs import detection_folder, parsed_scenes

pytestmark = pytest.mark.usefixtures("few_draws")

# 12 images in batches of 4, each accumulated from two halves.
SHARED = (
    "image_size=32", "batch_size=4", "micro_batch=2", "epochs=2", "warmup_epochs=1", "workers=0", "precision=fp32",
    "head_channels=16",
)  # fmt: skip
OWN = {
    "ade20k": ("scale=[64,32]", "stride=20", "norm=GN", "warmup_steps=0"),
    "coco_detection": ("roi_batch=16", "window=2", "detections=12"),
}
# Averaged weights, dropout and stochastic depth: what draws lots and what has a state.
NOISY = {
    "ade20k": ("ema_decay=0.9", "drop_path=0.3", "head_dropout=0.3"),
    "coco_detection": ("ema_decay=0.9", "drop_path=0.3"),
}
BOTH = pytest.mark.parametrize("task", list(OWN))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both data sets, with 12 training and 7 validation images each. Read only."""
    root = tmp_path_factory.mktemp("data")
    for split, count in (("train", 12), ("val", 7)):
        numbers = range(1, count + 1)
        for number in numbers:
            _draw_scene(root / "ADEChallengeData2016", split, number)
        start = {"train": 100, "val": 200}[split]
        boxes = [
            instances.rectangle(
                start + number, start + number, list(instances.CATEGORIES)[number % 3], (number, 6, 14, 12)
            )
            for number in numbers
        ]
        images = [(start + number, 40, 30 + number) for number in numbers]
        instances.write(root / "coco", split, images, boxes)
    classes = [f"{number}\t{name}" for number, name in enumerate(label_maps.NAMES, 1)]
    (root / "ADEChallengeData2016" / "objectInfo150.txt").write_text("\n".join(["Idx\tName", *classes]) + "\n")
    return root


def _draw_scene(root: Path, split: str, number: int) -> None:
    """Every second one has hardly any labels."""
    name = f"ADE_{split}_{number:08d}"
    label_maps.draw(root, split, name, size=(40 + number, 30))
    if number % 2:
        file = root / "annotations" / {"train": "training", "val": "validation"}[split] / f"{name}.png"
        ids = np.array(Image.open(file))
        ids[:27] = 0
        label_maps.save(file, ids)


def arguments(task: str, data: Path, out: Path, *changes: str, verb: str = "run", extra: tuple = ()) -> list[str]:
    sets = [part for change in (*SHARED, *OWN[task], *changes) for part in ("--set", change)]
    return [verb, task, "--backbone", "multiway_nano", "--data", str(data), "--out", str(out), *map(str, extra), *sets]


def folder(out: Path, task: str) -> Path:
    return out / task / "multiway_nano-seed0"


def final(out: Path, task: str) -> Path:
    return folder(out, task) / "checkpoints" / "final.safetensors"


def predicted(out: Path, task: str) -> tuple[bytes, bytes]:
    """The records of a run, and their arrays."""
    path = folder(out, task) / "predictions" / "val.jsonl"
    return path.read_bytes(), path.with_suffix(".arrays").read_bytes()


def assert_same_weights(one: Path, two: Path) -> None:
    states = load_file(one), load_file(two)
    assert states[0].keys() == states[1].keys()
    assert not [name for name, tensor in states[0].items() if not tensor.equal(states[1][name])]


# Interruption


@pytest.mark.training
@BOTH
def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    task: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the midst of an epoch, then in the midst of the predictions: the same weights and records to the bit.

    Nor does validation leave a trace, of batch statistics or of lots that were drawn.
    """
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert main(arguments(task, data, whole, *NOISY[task], extra=("--validate", "1"))) == 0
    assert (folder(whole, task) / "validation.csv").read_text().count("\n6,2.0,val,") >= 4
    call = arguments(task, data, broken, *NOISY[task])
    monkeypatch.setattr(checkpoint, "SAVE_EVERY", 0.0)
    optimizer_step, append = loop.optimizer_step, PredictionWriter.append
    steps: list[int] = []
    batches: list[list[dict]] = []

    def interrupted(*args: Any, step: int, **options: Any) -> dict[str, float]:
        steps.append(step)
        if step == 4 and steps.count(4) == 1:
            raise KeyboardInterrupt
        return optimizer_step(*args, step=step, **options)

    def write(writer: PredictionWriter, records: Iterator[dict]) -> None:
        batches.append(list(records))
        if len(batches) == 3:
            raise KeyboardInterrupt
        append(writer, batches[-1])

    monkeypatch.setattr(loop, "optimizer_step", interrupted)
    assert main(call) == 130
    assert steps == [0, 1, 2, 3, 4]
    monkeypatch.setattr(PredictionWriter, "append", write)
    assert main(call) == 130
    assert steps == [0, 1, 2, 3, 4, 4, 5]
    parts = folder(broken, task) / "predictions" / "val"
    assert sum(part.read_bytes().count(b"\n") for part in parts.glob("*.jsonl")) == 4
    assert main(call) == 0
    assert steps == [0, 1, 2, 3, 4, 4, 5]
    assert [len(batch) for batch in batches] == [2, 2, 2, 2, 1, 7]  # the last is the merging
    assert_same_weights(final(whole, task), final(broken, task))
    assert predicted(whole, task) == predicted(broken, task)


# Several processes


def execute(call: list[str], work: Path, *, count: int, stop: int = -1) -> subprocess.CompletedProcess:
    """A command as a group of processes, which leave their weights in `work`."""
    work.mkdir(parents=True, exist_ok=True)
    return processes.run("tests.tasks.every_process", work, stop, *call, processes=count)


@pytest.fixture(scope="module")
def plain(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of each task in one process."""
    out = tmp_path_factory.mktemp("plain")
    for task in OWN:
        assert main(arguments(task, data, out)) == 0
    return out


@pytest.mark.spawn
@BOTH
@pytest.mark.parametrize("count", [2, 3])
def test_several_processes_predict_what_one_predicts(
    task: str, count: int, data: Path, plain: Path, tmp_path: Path
) -> None:
    """7 images in batches of 2: neither 2 nor 3 divides them, nor 3 the batches."""
    extra = ("--weights", final(plain, task), "--name", "multiway_nano-seed0")
    call = arguments(task, data, tmp_path, verb="predict", extra=extra)
    done = execute(call, tmp_path / "work", count=count)
    assert done.returncode == 0, done.stderr
    assert predicted(tmp_path, task) == predicted(plain, task)
    records = read(folder(plain, task) / "predictions" / "val.jsonl")
    assert [record["id"] for record in records] == [s.id for s in tasks.get(task).samples(_root(task, data), "val")]
    assert len({str(record.get("scores", record.get("png")).tolist()) for record in records}) == 7


def _root(task: str, data: Path) -> Path:
    return tasks.get(task).data_folder(data)


@pytest.mark.spawn
@BOTH
def test_training_on_two_processes_is_killed_and_goes_on(task: str, data: Path, tmp_path: Path) -> None:
    """Both processes end with the same weights, and with those of a training that nobody killed."""
    call = {name: arguments(task, data, tmp_path / name, "micro_batch=1", *NOISY[task]) for name in ("whole", "broken")}
    done = execute(call["whole"], tmp_path / "whole", count=2)
    assert done.returncode == 0, done.stderr
    done = execute(call["broken"], tmp_path / "broken", count=2, stop=4)
    assert done.returncode != 0
    assert not final(tmp_path / "broken", task).exists()
    done = execute(call["broken"], tmp_path / "broken", count=2)
    assert done.returncode == 0, done.stderr
    assert "Going on from step 3" in done.stderr
    for name in ("whole", "broken"):
        for rank in range(2):
            assert_same_weights(final(tmp_path / "whole", task), tmp_path / name / f"{rank}.safetensors")
    assert predicted(tmp_path / "whole", task) == predicted(tmp_path / "broken", task)


@pytest.mark.spawn
def test_segmentation_on_two_processes_is_trained_as_on_one(data: Path, tmp_path: Path) -> None:
    """MMSegmentation averages over all pixels, labelled or not: quarters of a batch count alike."""
    # With a large epsilon Adam's steps are in proportion to the gradients: rounding makes none, and their scale counts.
    task, changes = "ade20k", ("drop_path=0.0", "head_dropout=0.0", "eps=1e-3", "lr=1e-2")
    assert main(arguments(task, data, tmp_path / "one", *changes, "micro_batch=4")) == 0
    call = arguments(task, data, tmp_path / "two", *changes, "micro_batch=1")
    done = execute(call, tmp_path / "work", count=2)
    assert done.returncode == 0, done.stderr
    one, two = (load_file(final(tmp_path / name, task)) for name in ("one", "two"))
    start = plan(task, backbone="multiway_nano", data=data, changes=[*SHARED, *OWN[task]]).build_model().state_dict()
    assert not [name for name, tensor in one.items() if (tensor - two[name]).abs().max() >= 1e-4]
    assert max((tensor - start[name]).abs().max() for name, tensor in one.items()) > 1e-2


# Photographs


def assert_sane(rows: list[ResultRow], *, images: int) -> None:
    for row in rows:
        assert row.n == images, row.metric
        assert 0 <= row.low <= row.value <= row.high <= 100, row.metric


def assert_pictures(folder: Path, *, count: int, panels: int = 3) -> None:
    """Check that there are `count` pictures, all different, each with its panels."""
    pictures = [np.asarray(Image.open(file).convert("RGB"), float) for file in sorted(folder.iterdir())]
    assert len(pictures) == len({picture.tobytes() for picture in pictures}) == count
    for picture in pictures:
        width = picture.shape[1] // panels
        for panel in range(panels):
            assert picture[30:, panel * width : (panel + 1) * width].std() > 5


def run_on_photographs(task: str, data: Path, out: Path, *changes: str) -> list[ResultRow]:
    shared = ("batch_size=16", "micro_batch=8", "epochs=1", "warmup_epochs=0", "workers=0", "head_channels=16")
    options = {"backbone": "multiway_nano", "data": data, "out": out, "changes": [*shared, *changes]}
    return harness.run(task, show=4, **options)


def test_photographs_are_segmented(truth: Path, tmp_path: Path) -> None:
    data = parsed_scenes(truth, tmp_path / "ADEChallengeData2016")
    rows = run_on_photographs(
        "ade20k", data, tmp_path, "image_size=64", "scale=[256,64]", "stride=48", "warmup_steps=0"
    )
    assert [row.metric for row in rows] == ["mIoU", "mIoU_all_classes", "mAcc", "aAcc"]
    assert_sane(rows, images=100)
    assert rows[0].value > 0
    work = folder(tmp_path, "ade20k")
    assert_pictures(work / "pictures", count=4)
    for record in read(work / "predictions" / "val.jsonl"):
        with (data / "images" / "validation" / f"{record['id']}.jpg").open("rb") as file:
            size = Image.open(file).size
        ids = np.asarray(Image.open(io.BytesIO(record["png"].tobytes())))
        assert ids.shape[::-1] == size
        assert 1 <= ids.min() <= ids.max() <= 133
    with (work / "classes.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 133


def test_objects_in_photographs_are_found_with_their_masks(truth: Path, tmp_path: Path) -> None:
    data = detection_folder(truth, tmp_path / "coco")
    changes = ("image_size=64", "roi_batch=32", "detections=10", "score_threshold=0.001")
    rows = run_on_photographs("coco_detection", data, tmp_path, *changes)
    assert len(rows) == 24
    assert_sane(rows, images=100)
    work = folder(tmp_path, "coco_detection")
    assert_pictures(work / "pictures", count=4)
    records = {record["id"]: record for record in read(work / "predictions" / "val.jsonl")}
    categories = set(tasks.get("coco_detection").labels(data))
    for sample in tasks.get("coco_detection").samples(data, "val"):
        record, width, height = records[sample.id], sample.inputs["width"], sample.inputs["height"]
        assert len(record["boxes"]) == len(record["masks"]) == len(record["labels"]) == 10
        assert {tuple(mask["size"]) for mask in record["masks"]} == {(height, width)}
        assert (record["boxes"][:, :2] >= 0).all()
        assert (record["boxes"][:, :2] + record["boxes"][:, 2:] <= [width + 0.01, height + 0.01]).all()
        assert set(record["labels"].tolist()) <= categories
        assert (np.diff(record["scores"]) <= 0).all()


# Odd images


@pytest.mark.slow
@BOTH
def test_an_image_of_one_pixel_and_one_20_000_pixels_wide_go_the_full_way(task: str, tmp_path: Path) -> None:
    """Trained on, predicted, scored and shown."""
    root = tmp_path / "data"
    sizes = {1: (1, 1), 2: (20_000, 40)}
    for split, start in (("train", 10), ("val", 20)):
        if task == "ade20k":
            for number, size in sizes.items():
                label_maps.draw(root, split, f"ADE_{split}_{start + number:08d}", size=size)
        else:
            boxes = [instances.rectangle(start + n, start + n, 7, (0, 0, *size)) for n, size in sizes.items()]
            instances.write(root, split, [(start + n, *size) for n, size in sizes.items()], boxes)
    if task == "ade20k":
        classes = [f"{number}\t{name}" for number, name in enumerate(label_maps.NAMES, 1)]
        (root / "objectInfo150.txt").write_text("\n".join(["Idx\tName", *classes]) + "\n")
    changes = ("batch_size=2", "micro_batch=2", *(["scale=[512,128]"] if task == "ade20k" else []))
    assert main(arguments(task, root, tmp_path / "out", *changes, extra=("--show", "2"))) == 0
    work = folder(tmp_path / "out", task)
    assert len(list((work / "pictures").iterdir())) == 2
    records = read(work / "predictions" / "val.jsonl")
    if task == "ade20k":
        found = [Image.open(io.BytesIO(record["png"].tobytes())).size for record in records]
        assert found == list(sizes.values())
    else:
        assert len(records[1]["masks"]) > 0
        assert {tuple(mask["size"]) for mask in records[1]["masks"]} == {(40, 20_000)}
    rows = json.loads((work / "result.json").read_text())
    assert {row["n"] for row in rows} == {2}
