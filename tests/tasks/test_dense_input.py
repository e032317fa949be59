"""Answers of the command line to wrong data of segmentation and detection: one paragraph, and nothing is lost."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tasks
from backbones import operators
from harness.cli import main
from tests.harness.test_cli import call, told
from tests.support import instances, label_maps
from tests.support.instances import code, entries

SHARED = (
    "image_size=32", "batch_size=2", "micro_batch=2", "epochs=1", "warmup_epochs=0", "workers=0", "head_channels=16",
)  # fmt: skip
SCENES = (*SHARED, "scale=[64,32]", "stride=32", "norm=GN", "warmup_steps=0")
OBJECTS = (*SHARED, "roi_batch=8", "window=2")


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    return label_maps.draw_folder(tmp_path / "ADEChallengeData2016")


@pytest.fixture
def objects(tmp_path: Path) -> Path:
    return instances.folder(tmp_path / "coco")


def final(out: Path, task: str) -> Path:
    return out / task / "multiway_nano-seed0" / "checkpoints" / "final.safetensors"


def larger(file: Path) -> bytes:
    """Give an image a row and a column more; returns the file as it was."""
    before = file.read_bytes()
    pixels = np.asarray(Image.open(file))
    label_maps.save(file, np.pad(pixels, [(0, 1), (0, 1), (0, 0)][: pixels.ndim]))
    return before


def test_a_training_map_of_another_size_is_told(scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for number in range(1, 6):
        larger(scenes / "annotations" / "training" / f"ADE_train_{number:08d}.png")
    assert main(call(scenes, tmp_path / "out", task="ade20k", changes=SCENES)) == 1
    text = told(capsys)
    assert "Label map " in text
    assert "A map has the size of its image as it is on disk" in text
    assert not (tmp_path / "out" / "results.csv").exists()


@pytest.mark.training
def test_a_map_to_score_of_another_size_is_told_and_the_predictions_are_kept(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    file = scenes / "annotations" / "validation" / "ADE_val_00000002.png"
    before = larger(file)
    run = call(scenes, tmp_path / "out", task="ade20k", changes=SCENES)
    assert main(run) == 1
    assert "The prediction of ADE_val_00000002 is 27 × 20 pixels, and label map" in told(capsys)
    predictions = final(tmp_path / "out", "ade20k").parents[1] / "predictions" / "val.jsonl"
    assert predictions.is_file()
    file.write_bytes(before)
    assert main(["score", "ade20k", str(predictions), "--data", str(scenes)]) == 0


@pytest.mark.training
def test_an_image_of_another_size_than_annotated_is_told_and_the_run_goes_on_once_it_is_mended(
    objects: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """The fine-tuned weights are not made again; predictions are, since they are of a split with another image."""
    image = objects / "val2017" / "000000000026.png"
    before = larger(image)
    out = tmp_path / "out"
    assert main(call(objects, out, task="coco_detection", changes=OBJECTS)) == 1
    text = told(capsys)
    assert f"Image {image} has 37 × 49 pixels (height × width), and the annotations say 36 × 48" in text
    stamp = final(out, "coco_detection").stat().st_mtime_ns
    (part,) = (final(out, "coco_detection").parents[1] / "predictions" / "val").glob("*.jsonl")
    assert [json.loads(line)["id"] for line in part.read_text().splitlines()] == ["29", "28"]
    image.write_bytes(before)
    assert main(call(objects, out, task="coco_detection", changes=OBJECTS)) == 0
    assert final(out, "coco_detection").stat().st_mtime_ns == stamp
    # Once all is predicted, the predictions are of the images as they were.
    image.write_bytes(before + b"\0")
    assert main(call(objects, out, task="coco_detection", changes=OBJECTS)) == 1
    assert "image files of val have other sizes or times" in told(capsys)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[2].update(image_id=1234), "1 unknown: 1234"),
        (lambda rows: rows[2].update(score=float("nan")), "entry 2 (from 0) has no finite number as 'score'"),
        (lambda rows: rows[2].update(category_id=8), "prediction of image 28"),
        (lambda rows: rows[2].update(segmentation=code(48, 37, (1, 1, 9, 9))), "prediction of image 28"),
    ],
)
def test_results_that_cannot_be_scored_are_told(
    objects: Path, tmp_path: Path, capsys: pytest.CaptureFixture, change: Callable, message: str
) -> None:
    rows = entries(tasks.get("coco_detection").samples(objects, "val"), masks=True)
    change(rows)
    (tmp_path / "results.json").write_text(json.dumps(rows))
    results = tmp_path / "results.csv"
    call = ["score", "coco_detection", str(tmp_path / "results.json"), "--data", str(objects)]
    assert main([*call, "--results", str(results)]) == 1
    assert message in told(capsys)
    assert not results.exists()


def test_predictions_of_ours_with_scores_that_are_no_numbers_are_told(
    objects: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    records = [
        {"id": s.id, "boxes": [[1, 1, 5, 5]], "labels": [7], "scores": [0.5]}
        for s in tasks.get("coco_detection").samples(objects, "val")
    ]
    records[1]["scores"] = [float("nan")]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert main(["score", "coco_detection", str(tmp_path / "p.jsonl"), "--data", str(objects)]) == 1
    assert "p.jsonl, line 2 is not a record" in told(capsys)  # NaN is no JSON


def test_annotations_without_masks_are_told_before_masks_are_learnt(
    objects: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    def change(whole: dict) -> None:
        for row in whole["annotations"]:
            del row["segmentation"]

    for split in ("train", "val"):
        instances.edit(objects, split, change)
    assert main(call(objects, tmp_path / "out", task="coco_detection", changes=OBJECTS)) == 1
    assert "Use --set masks=false" in told(capsys)


@pytest.mark.skipif(operators.compiled(), reason="a full mmcv is installed, with operators of its own")
def test_an_operator_of_the_full_mmcv_is_told(scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """In a third party's model."""
    file = tmp_path / "deformed.py"
    file.write_text(
        textwrap.dedent("""
            from tasks.segmentation.ade20k import ADE20K

            class Deformed(ADE20K):
                name = "deformed"

                def model(self, backbone, context):
                    from torch import nn

                    class Pyramid(nn.Module):
                        def __init__(self, within):
                            super().__init__()
                            from mmcv.ops import DeformConv2d
                            self.within, self.layer = within, DeformConv2d(128, 128, 1)

                        def forward(self, maps):
                            finest, *others = self.within(maps)
                            return self.layer(finest, finest.new_zeros(len(finest), 2, *finest.shape[2:])), *others

                    model = super().model(backbone, context)
                    model.pyramid = Pyramid(model.pyramid)
                    return model
        """)
    )
    assert main(call(scenes, tmp_path / "out", task=str(file), changes=SCENES)) == 1
    text = told(capsys)
    assert "mmcv's operator deform_conv_forward is not there" in text
    assert "install the full mmcv" in text
