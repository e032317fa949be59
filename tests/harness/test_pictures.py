from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backbones import InputError
from harness import pictures
from harness.cli import main
from harness.experiment import plan
from harness.predictions import PredictionWriter
from tests.harness.test_cli import call, told
from tests.support import instances, label_maps

TINY = (
    "image_size=32", "scale=[64,32]", "stride=32", "batch_size=2", "micro_batch=2", "epochs=1", "warmup_epochs=0",
    "workers=0", "head_channels=16", "norm=GN", "warmup_steps=0",
)  # fmt: skip


def right_maps(samples: list) -> list[dict]:
    return [{"id": s.id, "labels": np.fromfile(s.inputs["map"], np.uint8)} for s in samples]


def right_boxes(samples: list) -> list[dict]:
    return [
        {
            "id": sample.id,
            "boxes": np.array([item["bbox"] for item in sample.annotation["objects"]], np.float32),
            "labels": np.array([item["category_id"] for item in sample.annotation["objects"]], np.int32),
            "scores": np.array([0.9, 0.1], np.float32),
        }
        for sample in samples
    ]


def predictions(records: list[dict], folder: Path) -> Path:
    writer = PredictionWriter(folder, rank=0)
    writer.append(records)
    writer.close()
    return folder / "0-0.jsonl"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "draw", "records", "ids"),
    [
        ("ade20k", label_maps.draw_folder, right_maps, ["ADE_val_00000001", "ADE_val_00000002", "ADE_val_00000003"]),
        ("coco_detection", instances.folder, right_boxes, ["29", "28", "27"]),
    ],
)
def test_pictures_are_files_named_after_the_samples(
    task: str, draw: object, records: object, ids: list[str], tmp_path: Path
) -> None:
    experiment = plan(task, backbone="multiway_nano", data=draw(tmp_path / "data"), out=tmp_path)
    samples = experiment.samples("val")
    path = predictions(records(samples), tmp_path / "parts")
    pictures.write(experiment, samples, path, tmp_path / "three", count=3)
    assert sorted(file.name for file in (tmp_path / "three").iterdir()) == sorted(f"{name}.png" for name in ids)
    shown = [Image.open(tmp_path / "three" / f"{name}.png").convert("RGB") for name in ids]
    contents = {picture.tobytes() for picture in shown}
    assert len(contents) == 3
    for sample, picture in zip(samples, shown, strict=False):
        image = Image.open(experiment.data / sample.inputs["image"]).convert("RGB")
        panel = picture.crop((8, 22, 8 + 640, picture.height))  # the image itself comes first
        assert abs(np.asarray(panel, float).mean((0, 1)) - np.asarray(image, float).mean((0, 1))).max() < 40
        assert len(picture.getcolors(1 << 24)) > 20
    pictures.write(experiment, samples, path, tmp_path / "all", count=99)
    assert len(list((tmp_path / "all").iterdir())) == len(samples) == 4


@pytest.mark.training
def test_a_run_shows_as_many_as_were_asked_for_also_once_it_is_complete(
    tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    data, out = label_maps.draw_folder(tmp_path / "data"), tmp_path / "out"
    folder = out / "ade20k" / "multiway_nano-seed0" / "pictures"
    assert main(call(data, out, task="ade20k", changes=TINY)) == 0
    assert not folder.exists()
    final = folder.parent / "checkpoints" / "final.safetensors"
    before = final.stat().st_mtime_ns
    assert main(call(data, out, "--show", "2", task="ade20k", changes=TINY)) == 0
    assert sorted(file.stem for file in folder.iterdir()) == ["ADE_val_00000001", "ADE_val_00000003"]
    assert f"Pictures of 2 predictions: {folder}" in capfd.readouterr().err
    assert final.stat().st_mtime_ns == before
    assert (
        main(["predict", *call(data, out, "--show", "3", "--weights", str(final), task="ade20k", changes=TINY)[1:]])
        == 0
    )
    (told_of,) = [line for line in capfd.readouterr().err.splitlines() if "Pictures of 3 predictions" in line]
    assert len(list(Path(told_of.rpartition(": ")[2]).iterdir())) == 3


def test_pictures_that_cannot_be_had_are_refused_before_anything_starts(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(call(colours, tmp_path / "out", "--show", "1")) == 2
    assert "no pictures of imagenet's predictions, only of ade20k, coco_detection: leave out --show" in told(capsys)
    data = label_maps.draw_folder(tmp_path / "data")
    assert main(call(data, tmp_path / "out", "--show", "-1", task="ade20k", changes=TINY)) == 2
    assert "--show takes a number of pictures from 0, not -1" in told(capsys)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    experiment = plan("ade20k", backbone="multiway_nano", data=label_maps.draw_folder(tmp_path / "data"), out=tmp_path)
    samples = experiment.samples("val")
    path = predictions(right_maps(samples), tmp_path / "parts")
    (tmp_path / "pictures").write_text("a file")
    with pytest.raises(InputError, match=r"pictures/ADE_val_00000001\.png cannot be written"):
        pictures.write(experiment, samples, path, tmp_path / "pictures", count=1)
