from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import harness
import tasks
from harness.cli import main
from tasks.common import shards
from tests.conftest import FAST
from tests.support.photographs import classification_folders
from tests.support.shards import of_class_folders, served
from tests.tasks.classification.indexes import write_index

ADAPTER = tasks.get("imagenet")


def test_published_predictions_score_as_published(truth: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """50,000 real predictions of each model of the manifest, through `harness score`, to the printed digit."""
    manifest = json.loads((truth / "manifest.json").read_text())
    cases = [case for case in manifest["cases"] if case["task"] == "imagenet"]
    assert cases
    for path in {case["predictions"] for case in cases}:
        expected = {}
        for case in cases:
            if case["predictions"] == path:
                expected |= case["expected"]
        case = next(case for case in cases if case["predictions"] == path and "index" not in case)
        with_real = [case for case in cases if case["predictions"] == path and "index" in case]
        root = tmp_path / Path(path).stem
        root.mkdir()
        _write_truth(truth, case, with_real, root)
        assert main(["score", "imagenet", str(root / "predictions.jsonl"), "--data", str(root), "--json"]) == 0
        found = {row["metric"]: row for row in json.loads(capsys.readouterr().out)}
        names = {"acc1": "top1", "acc5": "top5", "real_acc1": "real_top1"}
        for name, printed in expected.items():
            digits = len(printed.partition(".")[2])
            assert f"{found[names[name]]['value']:.{digits}f}" == printed, (path, name)
            assert found[names[name]]["low"] < float(printed) < found[names[name]]["high"]


def _write_truth(truth: Path, case: dict, with_real: list[dict], root: Path) -> None:
    """A case of the manifest in the official layout: rows are in ImageFolder order."""
    labels = np.load(truth / case["labels"])
    classes, scores = np.load(truth / case["predictions"]), np.load(truth / case["probabilities"])
    order = np.argsort(-scores.astype(np.float64), axis=1, kind="stable")
    tops = np.take_along_axis(classes, order, axis=1)
    names = [f"val/{label:04d}/{row}.JPEG" for row, label in enumerate(labels)]
    if with_real:
        files = json.loads((truth / with_real[0]["index"]).read_text())
        names = [f"val/{label:04d}/{Path(file).name}" for file, label in zip(files, labels, strict=True)]
        shutil.copy(truth / with_real[0]["labels"], root / "real.json")
    with (root / "imagenet.val.index.jsonl").open("w") as index, (root / "predictions.jsonl").open("w") as lines:
        for name, label, top in zip(names, labels, tops, strict=True):
            index.write(json.dumps({"image_path": name, "label": int(label)}) + "\n")
            lines.write(json.dumps({"id": name, "top": top.tolist()}) + "\n")


def test_real_photographs_go_the_full_way(truth: Path, tmp_path: Path) -> None:
    """Photographs of every shape and size, with timm's full augmentation: fine-tune, predict, score."""
    data = classification_folders(truth, tmp_path / "data")
    train, val = (ADAPTER.samples(data, split) for split in ("train", "val"))
    assert len(train) > 50
    assert len(val) > 40
    changes = ["image_size=32", "batch_size=16", "micro_batch=16", "epochs=8", "auto_augment=rand-m9-mstd0.5-inc1"]
    options = {"mixup": 0.8, "cutmix": 1.0, "random_erasing": 0.25}
    changes += [f"{name}={value}" for name, value in options.items()]
    rows = harness.run("imagenet", backbone="multiway_nano", data=data, out=tmp_path / "out", changes=changes)
    scores = {row.metric: row for row in rows}
    # 60 % of these photographs show a person foremost: a model that learnt anything finds that.
    share = max(Counter(sample.annotation["label"] for sample in val).values()) / len(val)
    assert scores["top1"].n == len(val)
    assert 100 * share - 15 < scores["top1"].value <= scores["top5"].value <= 100
    assert scores["top1"].low < scores["top1"].value < scores["top1"].high


# Bad input


def damage(folders: Path) -> tuple[Path, Path]:
    truncated, text = sorted((folders / "val" / "class1").iterdir())[:2]
    truncated.write_bytes(truncated.read_bytes()[:400])
    text.write_text("this is no picture")
    return truncated, text


def test_check_finds_every_broken_image(folders: Path) -> None:
    truncated, text = damage(folders)
    findings = harness.check("imagenet", data=folders, decode=True)["imagenet"]
    wrong = [finding.text for finding in findings if not finding.ok]
    assert len(wrong) == 2
    assert any(str(truncated) in reason and "cannot be decoded" in reason for reason in wrong)
    assert any(str(text) in reason and "not an image" in reason for reason in wrong)


def test_check_counts_against_the_official_sizes(colours: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["check", "imagenet", "--data", str(colours), "--json"]) == 0
    texts = [finding["text"] for finding in json.loads(capsys.readouterr().out)["imagenet"]]
    assert texts[0] == "train: 24 images (official: 1,281,167), 3 classes"


def test_check_names_images_that_the_index_has_and_the_folder_lacks(folders: Path) -> None:
    write_index(folders, "val")
    gone = sorted((folders / "val" / "class2").iterdir())[0]
    gone.unlink()
    findings = harness.check("imagenet", data=folders)["imagenet"]
    assert any(not finding.ok and str(gone) in finding.text for finding in findings)


@pytest.mark.training
@pytest.mark.parametrize("which", [0, 1], ids=["truncated JPEG", "text named .jpg"])
def test_a_broken_image_stops_prediction_with_its_name(
    folders: Path, tmp_path: Path, which: int, capsys: pytest.CaptureFixture
) -> None:
    broken = damage(folders)
    keep = broken[1 - which]
    shutil.copy(sorted((folders / "val" / "class1").iterdir())[3], keep)
    arguments = ["run", "imagenet", "--backbone", "multiway_nano", "--data", str(folders), "--out", str(tmp_path)]
    changes = ["image_size=16", "batch_size=8", "micro_batch=8", "epochs=1", "warmup_epochs=0", "workers=1"]
    assert main([*arguments, *[part for change in changes for part in ("--set", change)]]) == 1
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith("harness: ")
    assert str(broken[which]) in told
    assert "Replace it" in told


@pytest.mark.training
def test_shards_at_an_address_give_the_rows_of_class_folders(colours: Path, tmp_path: Path, few_draws: None) -> None:
    away, here = of_class_folders(colours, tmp_path / "away", per_shard=9), tmp_path / "here"
    shards.main(away)
    here.mkdir()
    for name in ("classes.txt", "train.shards.jsonl", "val.shards.jsonl"):
        shutil.copy(away / name, here)
    options = {"backbone": "multiway_nano", "changes": [*FAST, "epochs=1"]}
    with served(away) as server:
        (here / "shards.url").write_text(server.address)
        streamed = harness.run("imagenet", data=here, out=tmp_path / "streamed", **options)
        read = len(server.asked)
    assert read == 24 + 13, "an image is asked for once"
    local = harness.run("imagenet", data=away, out=tmp_path / "local", **options)
    assert [(row.metric, row.value, row.data_sha256) for row in streamed] == [
        (row.metric, row.value, row.data_sha256) for row in local
    ]
