from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import harness
import tasks
from harness.cli import main
from tasks.bootstrap import mean
from tests.harness.test_cli import told
from tests.support import detections, instances, label_maps
from tests.support.instances import entries, found


def intersection_over_union(pairs: list[tuple[np.ndarray, np.ndarray]], number: int) -> float:
    """Of one id over all images, by the definition; pixels without a label are not judged."""
    both = sum(((truth == number) & (map_ == number)).sum() for truth, map_ in pairs)
    either = sum(((truth == number) | (map_ == number) & (truth > 0)).sum() for truth, map_ in pairs)
    return both / either


def test_the_classes_of_ade20k_have_their_values_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data = label_maps.draw_folder(tmp_path / "data")
    rng = np.random.default_rng(0)
    pairs = []
    for sample in tasks.get("ade20k").samples(data, "val"):
        truth = np.asarray(Image.open(sample.inputs["map"]))
        map_ = np.where(rng.random(truth.shape) < 0.6, truth, rng.integers(0, 4, truth.shape)).astype(np.uint8)
        label_maps.save(tmp_path / "maps" / f"{sample.id}.png", map_)
        pairs.append((truth, map_))
    file = tmp_path / "out" / "classes.csv"
    call = ["score", "ade20k", str(tmp_path / "maps"), "--data", str(data), "--classes", str(file), "--json"]
    assert main(call) == 0
    rows = {row["metric"]: row for row in json.loads(capsys.readouterr().out)}
    assert "IoU" not in rows
    frame = pd.read_csv(file)
    assert (frame.metric.tolist(), frame.of.tolist()) == (["IoU"] * 3, ["sky", "tree", "road"])
    expected = [100 * intersection_over_union(pairs, number) for number in (1, 2, 3)]
    assert frame.value.tolist() == pytest.approx(expected, rel=1e-12)
    assert rows["mIoU"]["value"] == pytest.approx(np.mean(expected), rel=1e-12)
    assert ((frame.low < frame.value) & (frame.value < frame.high)).all()
    assert (frame.n == 4).all()


@pytest.mark.slow
def test_the_categories_of_coco_have_the_values_of_the_official_tool(tmp_path: Path) -> None:
    data = instances.folder(tmp_path / "coco")
    samples = tasks.get("coco_detection").samples(data, "val")
    rows = entries(samples)
    for number, row in enumerate(rows):
        row["bbox"] = [row["bbox"][0] + number % 3, *row["bbox"][1:]]  # found less and less well
    (tmp_path / "results.json").write_text(json.dumps(rows))
    file = tmp_path / "classes.csv"
    call = ["score", "coco_detection", str(tmp_path / "results.json"), "--data", str(data), "--classes", str(file)]
    assert main(call) == 0
    frame = pd.read_csv(file)
    assert set(frame.metric) == {"box_AP"}
    assert frame.of.tolist() == list(instances.CATEGORIES.values())
    by_image = {s.id: [row for row in rows if row["image_id"] == int(s.id)] for s in samples}
    order = sorted(samples, key=lambda sample: int(sample.id))
    records = [
        found(*[row["bbox"] for row in by_image[s.id]], score=0.75)
        | {"labels": np.array([row["category_id"] for row in by_image[s.id]])}
        for s in order
    ]
    official = detections.loaded(
        detections.Detected([s.annotation for s in order], records, dict(instances.CATEGORIES)), "box"
    )
    precision = detections.evaluated(official, "box").eval["precision"][:, :, :, 0, -1]  # IoU, recall, category
    by_id = dict(zip(sorted(instances.CATEGORIES), precision.mean((0, 1)), strict=True))
    expected = [100 * by_id[number] for number in instances.CATEGORIES]
    assert frame.value.tolist() == pytest.approx(expected, rel=1e-9)
    assert len(set(expected)) == 3


def test_a_task_without_such_metrics_says_so(colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    samples = tasks.get("imagenet").samples(colours, "val")
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps({"id": s.id, "top": [0]}) + "\n" for s in samples))
    file = tmp_path / "classes.csv"
    assert main(["score", "imagenet", str(path), "--data", str(colours), "--classes", str(file)]) == 2
    assert "Task imagenet has no metrics of single classes: leave --classes out." in told(capsys)
    assert not file.exists()


def test_draws_follow_from_the_data_alone(colours: Path, tmp_path: Path) -> None:
    """Neither the run nor its seed moves an interval."""
    samples = tasks.get("imagenet").samples(colours, "val")
    path = tmp_path / "val.jsonl"
    path.write_text("".join(json.dumps({"id": s.id, "top": [n % 3]}) + "\n" for n, s in enumerate(samples)))
    first = harness.score("imagenet", path, data=colours)[0]
    hits = [n % 3 == sample.annotation["label"] for n, sample in enumerate(samples)]
    expected = mean("top1", hits).interval(seed=int(first.data_sha256, 16))
    assert (first.low, first.high) == expected
    assert (first.bootstrap_draws, first.seed) == (1000, None)
    (tmp_path / "val.json").write_text(json.dumps({"seed": 5, "run_id": "other"}))
    second = harness.score("imagenet", path, data=colours)[0]
    assert (second.seed, second.run_id) == (5, "other")
    assert (second.low, second.high) == expected


def test_a_perfect_accuracy_has_wilsons_interval_and_names_no_draws(colours: Path, tmp_path: Path) -> None:
    samples = tasks.get("imagenet").samples(colours, "val")
    path = tmp_path / "val.jsonl"
    path.write_text("".join(json.dumps({"id": s.id, "top": [s.annotation["label"]]}) + "\n" for s in samples))
    row = harness.score("imagenet", path, data=colours)[0]
    n = len(samples)
    assert (row.value, row.high, row.bootstrap_draws) == (100, 100, None)
    assert row.low == pytest.approx(100 * n / (n + 1.959964**2), abs=1e-6)
