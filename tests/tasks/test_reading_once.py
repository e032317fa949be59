"""A run parses each annotation file once: for training, validation and scored splits, for the labels and for scores."""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import harness
from backbones import weights
from harness import pipeline, preflight, validation
from harness.inference import Predicted
from harness.predictions import PredictionWriter
from harness.workdir import FINAL
from tasks.adapter import Sample
from tasks.bootstrap import mean
from tasks.captioning.base import Captioning
from tasks.captioning.nocaps import NoCaps
from tasks.common.reading import Remembered, parsed_once
from tests.conftest import draw_folders
from tests.support import instances, label_maps
from tests.support.questions import VOCABULARY, colour_questions, write_labels
from tests.tasks.captioned import write_coco, write_flickr30k
from tests.tasks.classification.indexes import write_index
from tests.tasks.reasoning.files import statements

ANNOTATIONS = {".json", ".jsonl", ".txt"}
_opened: Counter[Path] | None = None


def _count(event: str, arguments: tuple) -> None:
    """An audit hook: Python reports every file that it opens, whichever way."""
    if _opened is not None and event == "open" and isinstance(arguments[0], str | Path):
        _opened[Path(arguments[0]).absolute()] += 1


@contextmanager
def opened_files() -> Iterator[Counter[Path]]:
    """Count how often each file is opened while the context is open."""
    global _opened
    if not hasattr(opened_files, "hooked"):
        sys.addaudithook(_count)  # stays for the life of the process
        opened_files.hooked = True
    _opened = Counter()
    try:
        yield _opened
    finally:
        _opened = None


def index_files(root: Path) -> Path:
    draw_folders(root, train=8, val=4)
    for split in ("train", "val"):
        write_index(root, split)
    return root


def pairs(root: Path) -> Path:
    for split in ("train", "dev"):
        statements(root, split, sets=2)
    return root


def listed_answers(root: Path) -> Path:
    write_labels(colour_questions(root), VOCABULARY)
    return root


def novel_objects(root: Path) -> Path:
    write_coco(root.parent / "coco")
    (root / "val").mkdir(parents=True)
    image = next((root.parent / "coco" / "val2014").iterdir())
    shutil.copy(image, root / "val" / "0.jpg")
    content = {
        "images": [{"id": 0, "file_name": "0.jpg", "domain": "in-domain"}],
        "annotations": [{"id": 1, "image_id": 0, "caption": "a cat"}],
    }
    (root / "nocaps_val_4500_captions.json").write_text(json.dumps(content))
    return root


QUESTIONS = {
    f"v2_{name}.json"
    for part in ("train2014", "val2014")
    for name in (f"OpenEnded_mscoco_{part}_questions", f"mscoco_{part}_annotations")
}
COCO_INSTANCES = {"instances_train2017.json", "instances_val2017.json"}
CASES: dict[str, tuple[str, Callable[[Path], Path], set[str]]] = {
    "imagenet": ("imagenet", index_files, {"imagenet.train.index.jsonl", "imagenet.val.index.jsonl"}),
    "ade20k": ("ade20k", label_maps.draw_folder, {"objectInfo150.txt"}),
    "coco_detection": ("coco_detection", instances.folder, COCO_INSTANCES),
    "nlvr2": ("nlvr2", pairs, {"train.json", "dev.json"}),
    "vqav2": ("vqav2", colour_questions, QUESTIONS),
    "vqav2 with listed answers": ("vqav2", listed_answers, {*QUESTIONS, "answer2label.txt"}),
    "coco_captioning": ("coco_captioning", write_coco, {"dataset_coco.json"}),
    "nocaps": ("nocaps", novel_objects, {"dataset_coco.json", "nocaps_val_4500_captions.json"}),
    "coco_retrieval": ("coco_retrieval", write_coco, {"dataset_coco.json"}),
    "coco_zero_shot": ("coco_zero_shot", write_coco, {"dataset_coco.json"}),
    "flickr30k_retrieval": ("flickr30k_retrieval", write_flickr30k, {"dataset_flickr30k.json"}),
    "flickr30k_zero_shot": ("flickr30k_zero_shot", write_flickr30k, {"dataset_flickr30k.json"}),
}


def record(sample: Sample, index: int) -> dict[str, Any]:
    """A prediction in the form of every task at once."""
    found = {"top": [0], "label": 1, "answer": "yes", "caption": "a cat", "feature": [1.0, float(index)]}
    if "map" in sample.inputs:
        found["png"] = label_maps.png(np.asarray(Image.open(sample.inputs["map"])))
    if "width" in sample.inputs:
        found |= {"boxes": np.zeros((0, 4)), "scores": np.zeros(0), "labels": np.zeros(0)}
    return {"id": sample.id, **found}


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs whose training and prediction compute nothing; all around them is as it is."""

    def fine_tune(model, dataset, recipe, *, folder: Path, validation, **_) -> Path:
        assert dataset[0]
        folder.mkdir(parents=True)
        weights.save(model.state_dict(), folder / FINAL)
        assert validation is None or validation(model, step=1, epoch=1.0)
        return folder / FINAL

    def predict(model, dataset, samples: Sequence[Sample], recipe, *, target: Path, **_) -> Predicted:
        assert dataset[0]
        target.parent.mkdir(parents=True, exist_ok=True)
        writer = PredictionWriter(target.parent / "new", rank=0)
        writer.append(record(sample, index) for index, sample in enumerate(samples))
        writer.close()
        for file in (target.parent / "new").iterdir():
            file.rename(target.with_suffix(file.suffix))
        return Predicted(target, 1.0, len(samples))

    monkeypatch.setattr(pipeline, "fine_tune", fine_tune)
    monkeypatch.setattr(pipeline, "predict_split", predict)
    monkeypatch.setattr(validation, "predict", predict)
    monkeypatch.setattr(preflight, "accumulation", lambda recipe, *, processes: 1)
    for adapter in (Captioning, NoCaps):  # Java would compute the scores
        monkeypatch.setattr(adapter, "score", lambda _, records, samples, **__: [mean("CIDEr", np.ones(len(samples)))])
        monkeypatch.setattr(adapter, "scoring_obstacles", lambda _: ())


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_run_opens_each_annotation_file_once(case: str, tmp_path: Path, spm: Path, untrained: None) -> None:
    task, write, expected = CASES[case]
    data = write(tmp_path / {"nocaps": "nocaps"}.get(task, "data"))
    options = {"backbone": "multiway_nano", "data": data, "out": tmp_path / "out"}
    if not task.startswith(("imagenet", "ade20k", "coco_detection")):
        options["tokenizer"] = spm
    if task.endswith("zero_shot"):
        model = pipeline.Experiment.build_model(harness.experiment.plan(task, weights=spm, **options))
        weights.save(model.state_dict(), tmp_path / "w.safetensors")
        options["weights"] = tmp_path / "w.safetensors"
    changes = () if task.endswith("zero_shot") else ("validate=1", "workers=0")
    with opened_files() as opened:
        harness.run(task, changes=changes, **options)
    read = {path: count for path, count in opened.items() if path.suffix in ANNOTATIONS and path.is_relative_to(data)}
    if task == "nocaps":
        read |= {path: count for path, count in opened.items() if path.parent == data.parent / "coco"}
    assert {path.name: count for path, count in read.items()} == dict.fromkeys(expected, 1)


def test_what_was_parsed_is_forgotten_afterwards_and_read_again_when_a_file_changes(tmp_path: Path) -> None:
    file, calls = tmp_path / "a.json", []
    file.write_text("1")
    length = Remembered(lambda path, *, times=1: calls.append(path) or times * len(path.read_text()))
    assert (length(file), length(file), len(calls)) == (1, 1, 2)  # nothing is kept outside
    with parsed_once():
        assert (length(file), length(file), len(calls)) == (1, 1, 3)
        assert (length(file, times=2), len(calls)) == (2, 4)
        with parsed_once():  # the inner one ends nothing
            assert (length(file), len(calls)) == (1, 4)
        assert (length(file), len(calls)) == (1, 4)
        file.write_text("22")
        assert (length(file), len(calls)) == (2, 5)
        length.keep(file, 7)
        assert (length(file), len(calls)) == (7, 5)
    assert (length(file), len(calls)) == (2, 6)
