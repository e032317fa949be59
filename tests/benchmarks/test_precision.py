"""The comparison of precisions runs at a tiny size, and sees what it should."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tasks.adapter import Sample
from tests.benchmarks import peers, precision

SHORT = ["steps=2", "batch_size=8", "micro_batch=8"]


def test_every_task_is_compared_with_torchscales_own_predictions(tmp_path: Path) -> None:
    *others, detection = precision.TASKS
    rows = precision.measure(scale=0.02, tasks=others, changes=SHORT, folder=tmp_path / "others").rows
    small = [*SHORT, "image_size=64"]  # half precision takes a CPU most of the time
    rows += precision.measure(scale=0.02, tasks=[detection], changes=small, folder=tmp_path / "detection").rows
    assert [row["task"] for row in rows] == [task.name for task in precision.TASKS]
    task_of = {task.name: task for task in precision.TASKS}
    for row in rows:
        assert row["predictions"] > 1
        assert 0 <= row["ours fp16 %"] <= 100
        if (
            peers.has_torchscale() and task_of[row["task"]].official
        ):  # the same weights, so another prediction would be another computation
            assert row["fp32, ours to torchscale's %"] == 0


def test_what_changes_more_than_torchscales_is_told() -> None:
    row = {"task": "t", "ours bf16 %": 3.0, "ours fp16 %": 1.0, "torchscale bf16 %": 3.0, "torchscale fp16 %": 0.5}
    assert precision.missed([row]) == ["t, fp16: 1.00 % change, of torchscale's 0.50 %"]
    assert len(precision.missed([row | {"fp32, ours to torchscale's %": 1.0, "ours fp16 %": 0.0}])) == 1


def test_pixels_of_another_class_are_counted() -> None:
    maps = [np.zeros((2, 4), np.uint8), np.ones((1, 2), np.uint8)]
    other = [maps[0].copy(), np.array([[1, 2]], np.uint8)]
    assert precision._pixels_changed(maps, other) == 10


def test_detections_without_a_counterpart_are_counted() -> None:
    boxes, classes = np.array([[0, 0, 10, 10], [20, 0, 10, 10]], np.float32), np.array([1, 2])
    moved = boxes + np.array([[0.1, 0, 0, 0], [3, 0, 0, 0]], np.float32)
    assert precision._detections_changed([(boxes, classes)], [(boxes, classes)]) == 0
    assert precision._detections_changed([(boxes, classes)], [(moved, classes)]) == 50
    assert precision._detections_changed([(boxes, classes)], [(boxes, classes[::-1])]) == 100
    assert precision._detections_changed([(boxes, classes)], [(boxes[:0], classes[:0])]) == 100


def test_a_texts_rank_counts_the_nearer_images() -> None:
    samples = [Sample(name, {"image": name}, None) for name in "ab"]
    samples += [Sample(f"{name}0", {"text": name}, {"image": name}) for name in "ab"]
    features = [np.array(pair, np.float32) for pair in ([1, 0], [0, 1], [0.8, 0.6], [0.8, 0.6])]
    assert precision._ranks(samples, features) == [0, 1]
