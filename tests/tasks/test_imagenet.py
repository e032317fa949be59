from __future__ import annotations

import dataclasses
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import harness
import tasks
from backbones import InputError, weights
from backbones.multiway import Multiway
from harness.cli import main
from tasks import imagenet
from tasks.adapter import Setting
from tasks.imagenet import RECIPES
from tasks.models.classifier import ImageClassifier
from tests.backbones.test_multiway import SMALL, TOLERANCE, official_config, small
from tests.photographs import classification_folders

ADAPTER = tasks.get("imagenet")
BARE = dataclasses.replace(SMALL, final_norm=False)


@pytest.fixture
def folders(colours: Path, tmp_path: Path) -> Path:
    """A copy of the colour images that a test may damage."""
    return Path(shutil.copytree(colours, tmp_path / "data"))


def write_index(root: Path, split: str, *, slash: str = "") -> None:
    samples = ADAPTER.samples(root, split)
    lines = [json.dumps({"image_path": slash + s.id, "label": s.annotation["label"]}) for s in samples]
    (root / f"imagenet.{split}.index.jsonl").write_text("\n".join(lines) + "\n")


def test_a_run_reads_each_index_once(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for split in ("train", "val"):
        write_index(folders, split)
    read: list[str] = []
    read_lines = imagenet.read_lines
    monkeypatch.setattr(
        imagenet, "read_lines", lambda path, **options: read.append(path.name) or read_lines(path, **options)
    )
    for split in ("train", "val"):
        ADAPTER.samples(folders, split)
    setting = Setting(root=folders, recipe=RECIPES["nano"])
    assert ADAPTER.model(Multiway(BARE), setting).head.out_features == 3
    assert read == ["imagenet.train.index.jsonl", "imagenet.val.index.jsonl"]
    given = dataclasses.replace(setting, labels=["a", "b"])
    assert ADAPTER.model(Multiway(BARE), given).head.out_features == 2


def official_classifier(reference: Path, meta: dict, case: str, *, image_size: int) -> ImageClassifier:
    config = official_config(meta | {"image_size": image_size}, final_norm=False)
    model = ImageClassifier(Multiway(config), classes=meta["cases"][case]["num_classes"]).eval()
    report = weights.load(model, reference / f"{case}.weights.safetensors")
    assert report.ignored == report.fresh == ()
    return model


def test_logits_equal_the_official_classifier(reference: Path, reference_meta: dict) -> None:
    case = "image_classification"
    model = official_classifier(reference, reference_meta, case, image_size=reference_meta["image_size"])
    io = load_file(reference / f"{case}.io.safetensors")
    with torch.no_grad():
        assert (model(io["image"]) - io["logits"]).abs().max() <= TOLERANCE


def test_position_interpolation_equals_the_official_one(reference: Path, reference_meta: dict) -> None:
    case = "position_interpolation"
    size = reference_meta["cases"][case]["to_image_size"]
    model = official_classifier(reference, reference_meta, case, image_size=size)
    io = load_file(reference / f"{case}.io.safetensors")
    table = model.beit3.encoder.embed_positions["A"].weight
    with torch.no_grad():
        assert (table - io["embed_positions_vision"]).abs().max() <= TOLERANCE
        assert (model(io["image"]) - io["logits"]).abs().max() <= TOLERANCE
        # A backbone of the small size interpolates as it goes, to the same result.
        before = official_classifier(
            reference, reference_meta, case, image_size=reference_meta["cases"][case]["from_image_size"]
        )
        assert (before(io["image"]) - io["logits"]).abs().max() <= TOLERANCE


def test_released_classifier_checkpoints_load_completely(tmp_path: Path) -> None:
    source = ImageClassifier(small(BARE), classes=7)
    path = tmp_path / "beit3_in1k.pth"
    torch.save({"model": source.state_dict()}, path)
    report = weights.load(ImageClassifier(small(BARE, seed=3), classes=7), path)
    assert report.fresh == report.ignored == ()
    # Some releases may lack the language half, which this task never uses.
    vision_only = {k: v for k, v in source.state_dict().items() if ".B." not in k and "text_embed" not in k}
    torch.save({"model": vision_only}, path)
    report = weights.load(ImageClassifier(small(BARE, seed=3), classes=7), path)
    assert report.loaded == len(vision_only)
    assert all(".B." in name or "text_embed" in name for name in report.fresh)
    # A head of another size is refused when predicting, started afresh when fine-tuning.
    with pytest.raises(InputError, match=r"head.weight \(7x32 in the file, 9x32 in the model\)"):
        weights.load(ImageClassifier(small(BARE), classes=9), path)
    report = weights.load(ImageClassifier(small(BARE), classes=9), path, new_heads=True)
    assert set(report.ignored) == {"head.weight", "head.bias"}


def test_base_classifier_has_the_official_parameter_count() -> None:
    import backbones

    with torch.device("meta"):
        trunk = Multiway(backbones.resolve("beit3_base_patch16_224", final_norm=False))
        model = ImageClassifier(trunk, classes=1000)
    counts = [parameter.numel() for parameter in model.parameters()]
    trained = [parameter.numel() for parameter in model.parameters() if parameter.requires_grad]
    assert sum(counts) == 221_754_856
    assert round(sum(trained) / 1e6, 2) == 86.66  # the vision branch alone


def test_evaluation_takes_imagenet_statistics_and_the_centre(tmp_path: Path) -> None:
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[:, 16:48] = 255  # the middle square
    (tmp_path / "val" / "a").mkdir(parents=True)
    Image.fromarray(pixels).save(tmp_path / "val" / "a" / "0.png")
    samples = ADAPTER.samples(tmp_path, "val")
    image = ADAPTER.eval_set(samples, Setting(root=tmp_path, recipe=RECIPES["nano"]))[0]["image"]
    assert image.shape == (3, 64, 64)
    white = torch.tensor([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225])
    torch.testing.assert_close(image[:, 32, 32], white, atol=1e-4, rtol=0)
    torch.testing.assert_close(image[:, 32, 4], white, atol=1e-4, rtol=0)  # only the square is left


def test_training_mixes_images_and_smooths_labels(colours: Path) -> None:
    recipe = RECIPES["base"]
    model = ADAPTER.model(small(BARE), Setting(root=colours, recipe=recipe))
    assert (model.mixup.mixup_alpha, model.mixup.cutmix_alpha, model.mixup.label_smoothing) == (0.8, 1.0, 0.1)
    plain = ADAPTER.model(small(BARE), Setting(root=colours, recipe=RECIPES["giant"]))
    assert plain.mixup is None
    image, label = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 0])
    with torch.no_grad():
        loss = plain(image, label, mode="loss")["loss"]
        log_p = plain(image).log_softmax(-1)
    smoothed = 0.9 * log_p.gather(1, label[:, None]).squeeze(1) + 0.1 * log_p.mean(1)
    torch.testing.assert_close(loss, -smoothed.mean())


def test_both_layouts_give_the_same_samples(folders: Path) -> None:
    for split, count in (("train", 24), ("val", 13)):
        before = ADAPTER.samples(folders, split)
        assert len(before) == count
        assert before[0] == (f"{split}/class0/0000.JPEG", f"{split}/class0/0000.JPEG", {"label": 0})
        write_index(folders, split, slash="/")  # as official index files may have it
        assert ADAPTER.samples(folders, split) == before
    assert ADAPTER.classes(folders) == ["class0", "class1", "class2"]


def test_real_labels_are_scored_over_the_images_that_have_one(tmp_path: Path) -> None:
    names = [f"val/a/ILSVRC2012_val_0000000{n}.JPEG" for n in (2, 1, 3)]  # not in the order of their numbers
    rows = [{"image_path": name, "label": 0} for name in names] + [{"image_path": "val/b/x.JPEG", "label": 1}]
    index = tmp_path / "imagenet.val.index.jsonl"
    index.write_text("\n".join(json.dumps(row) for row in rows))
    (tmp_path / "real.json").write_text("[[1], [0, 1], []]")
    with pytest.raises(InputError, match=r"val/b/x.JPEG is not"):
        ADAPTER.samples(tmp_path, "val")
    index.write_text(
        "\n".join(json.dumps(row) for row in rows[:3])
        + '\n{"image_path": "val/b/ILSVRC2012_val_00000003.PNG", "label": 1}'
    )
    samples = ADAPTER.samples(tmp_path, "val")
    predictions = {sample.id: {"top": [1, 0]} for sample in samples}
    scores = {measured.metric: measured for measured in ADAPTER.score(predictions, samples)}
    assert (scores["top1"].value, scores["top5"].value) == (25.0, 100.0)
    assert (scores["real_top1"].value, scores["real_top1"].samples) == (100.0, 2)


@pytest.mark.slow
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


@pytest.mark.slow
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


def test_a_missing_or_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"neither train/<class>/<image> nor imagenet\.train"):
        ADAPTER.samples(tmp_path, "train")
    (tmp_path / "train").mkdir()
    with pytest.raises(InputError, match="has no class folders"):
        ADAPTER.samples(tmp_path, "train")


def test_a_class_folder_without_images(folders: Path) -> None:
    (folders / "train" / "class9").mkdir()
    with pytest.raises(InputError, match="class9 has no images"):
        ADAPTER.samples(folders, "train")


def test_a_validation_class_that_training_lacks(folders: Path) -> None:
    shutil.copytree(folders / "val" / "class0", folders / "val" / "class9")
    with pytest.raises(InputError, match="class9 is not among those of"):
        ADAPTER.samples(folders, "val")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("not json", r"\(the official index of images\) is not JSON: 'not json'"),
        ('{"image_path": "val/class0/0000.JPEG"}', "has no field 'label'"),
        ("[1, 2]", "has no field 'image_path'"),
        ('{"image_path": "val/class0/0000.JPEG", "label": "cat"}', "is not of the form"),
    ],
)
def test_an_index_line_of_another_form(folders: Path, line: str, complaint: str) -> None:
    write_index(folders, "val")
    with (folders / "imagenet.val.index.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(InputError, match=rf"imagenet\.val\.index\.jsonl, line 14 {complaint}"):
        ADAPTER.samples(folders, "val")


@pytest.mark.parametrize("label", [3, -1])
def test_a_label_out_of_range(folders: Path, label: int) -> None:
    write_index(folders, "train")
    file = folders / "imagenet.train.index.jsonl"
    lines = file.read_text().splitlines()
    lines[4] = json.dumps({"image_path": "train/class0/0000.JPEG", "label": label})
    file.write_text("\n".join(lines))
    with pytest.raises(InputError, match=f"line 5: label {label} of .* out of range: there are 3 classes, 0 to 2"):
        ADAPTER.samples(folders, "train")


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


def test_a_prediction_of_another_task_is_told(colours: Path) -> None:
    samples = ADAPTER.samples(colours, "val")
    predictions = {sample.id: {"caption": "a bird"} for sample in samples}
    with pytest.raises(InputError, match="no list of class ids under 'top'"):
        ADAPTER.score(predictions, samples)
