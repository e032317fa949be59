from __future__ import annotations

import dataclasses
import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import harness
import tasks
from backbones import InputError, UsageError
from harness import provenance
from harness.predictions import PredictionWriter
from tasks.adapter import Setting
from tasks.ade20k import RECIPES
from tasks.ade20k_data import CLASS_FILE, class_names
from tasks.label_maps import encoded
from tasks.recipe import changed
from tests.photographs import parsed_scenes

ADAPTER = tasks.get("ade20k")
NAMES = ("sky", "tree", "road, street")
NUMBERS = {"train": 5, "val": 4, "test": 2}
SIZE = (26, 20)  # width, height


def draw(root: Path, split: str, name: str, *, size: tuple[int, int] = SIZE) -> None:
    """An image whose colours say its classes, and its label map with unlabelled pixels."""
    folder = {"train": "training", "val": "validation"}[split]
    ids = np.random.default_rng(len(name)).integers(0, len(NAMES) + 1, (size[1], size[0]), dtype=np.uint8)
    save(root / "annotations" / folder / f"{name}.png", ids)
    save(root / "images" / folder / f"{name}.jpg", np.repeat(60 * ids[..., None], 3, axis=2))


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set of three classes in the official layout."""
    root = tmp_path / "ADEChallengeData2016"
    for split in ("train", "val"):
        for number in range(NUMBERS[split]):
            draw(root, split, f"ADE_{split}_{number + 1:08d}", size=(SIZE[0] + number, SIZE[1]))
    for number in range(NUMBERS["test"]):
        save(root / f"release_test/testing/ADE_test_{number + 1:08d}.jpg", np.zeros((9, 7 + number, 3), np.uint8))
    write_classes(root)
    return root


def write_classes(root: Path, names: tuple[str, ...] = NAMES, *, header: str = "Idx\tRatio\tTrain\tVal\tName") -> None:
    rows = [f"{number} \t0.1\t5\t4\t{name} " for number, name in enumerate(names, 1)]
    (root / CLASS_FILE).write_text("\n".join([header, *rows]) + "\n")


def png(pixels: np.ndarray, mode: str | None = None) -> np.ndarray:
    """The bytes of a PNG file, as a record has them."""
    content = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(content, "PNG")
    return np.frombuffer(content.getvalue(), np.uint8)


def truths(samples: list) -> dict[str, dict]:
    """Predictions that are the label maps."""
    return {s.id: {"labels": np.fromfile(s.inputs["map"], np.uint8)} for s in samples}


def shape_of(sample: tasks.Sample) -> tuple[int, int]:
    return np.asarray(Image.open(sample.inputs["map"])).shape


def setting(root: Path, *changes: str) -> Setting:
    return Setting(root=root, recipe=changed(RECIPES["nano"], changes))


# Data


def test_samples_are_the_images_by_name(folder: Path) -> None:
    samples = ADAPTER.samples(folder, "train")
    assert [s.id for s in samples] == [f"ADE_train_{number + 1:08d}" for number in range(5)]
    assert samples[1].inputs["image"] == str(folder / "images/training/ADE_train_00000002.jpg")
    assert samples[1].inputs["map"] == str(folder / "annotations/training/ADE_train_00000002.png")
    assert samples[1].inputs["classes"] == ("sky", "tree", "road")  # the first of each class's names
    assert samples[1].annotation["map"] == "annotations/training/ADE_train_00000002.png"
    assert samples[1].annotation["classes"] == 3


def test_the_data_hash_covers_the_label_maps_and_not_where_they_lie(folder: Path, tmp_path: Path) -> None:
    before = provenance.data_sha256(ADAPTER.samples(folder, "val"))
    moved = Path(shutil.copytree(folder, tmp_path / "elsewhere"))
    assert provenance.data_sha256(ADAPTER.samples(moved, "val")) == before
    map_file = moved / "annotations/validation/ADE_val_00000002.png"
    ids = np.array(Image.open(map_file))
    ids[0, 0] = (ids[0, 0] + 1) % 4
    save(map_file, ids)
    assert provenance.data_sha256(ADAPTER.samples(moved, "val")) != before


@pytest.mark.parametrize("place", ["release_test/testing", "../release_test/testing", "images/testing"])
def test_test_images_lie_where_their_archive_was_unpacked(folder: Path, place: str) -> None:
    target = folder / place
    if place != "release_test/testing":
        target.parent.mkdir(parents=True, exist_ok=True)
        (folder / "release_test/testing").rename(target)
    samples = ADAPTER.samples(folder, "test")
    assert [s.id for s in samples] == ["ADE_test_00000001", "ADE_test_00000002"]
    assert samples[0].annotation is None
    assert Path(samples[0].inputs["image"]).is_file()


def test_a_listed_test_image_that_is_absent_is_found(folder: Path) -> None:
    names = ["ADE_test_00000002.jpg", "ADE_test_00000001.jpg", "ADE_test_00000003.jpg"]
    (folder / "release_test/list.txt").write_text("\n".join(names) + "\n")
    assert [s.id for s in ADAPTER.samples(folder, "test")] == [f"ADE_test_0000000{number}" for number in (1, 2, 3)]
    (wrong,) = [f.text for f in ADAPTER.check(folder, decode=False, progress=lambda i, _: i) if not f.ok]
    assert "test: 1 of 3 images absent" in wrong
    assert "ADE_test_00000003.jpg" in wrong


def test_without_a_class_file_the_classes_are_the_official_ones(folder: Path) -> None:
    (folder / CLASS_FILE).unlink()
    names = class_names(folder)
    assert (len(names), len(set(names)), names[0], names[7], names[149]) == (150, 150, "wall", "bed", "flag")


def test_the_official_class_file_has_a_column_more_in_the_archive(folder: Path) -> None:
    rows = [f"{number}\t0.1\t5\t4\t1\t{name}" for number, name in enumerate(NAMES, 1)]
    (folder / CLASS_FILE).write_text("\n".join(["Idx\tRatio\tTrain\tVal\tStuff\tName", *rows]))
    assert class_names(folder) == ("sky", "tree", "road")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"has no header with the tab-separated columns Idx and Name"),
        ("1\tsky\n2\ttree\n", r"has no header"),
        ("Idx\tName\n1\tsky\n3\ttree\n", r"class 2 is not a row with Idx 2 and a Name, but \['3', 'tree'\]"),
        ("Idx\tName\n1\tsky\n2\n", r"class 2 is not a row with Idx 2 and a Name, but \['2'\]"),
        ("Idx\tName\n", r"lists 0 classes"),
        ("Idx\tName\n" + "".join(f"{n}\tn{n}\n" for n in range(1, 257)), r"256 classes; maps of 8 bits have room"),
        ("Idx\tName\n1\tscreen, door\n2\tscreen\n", r"has the class screen twice"),
    ],
)
def test_a_class_file_of_another_form_is_told(folder: Path, content: str, message: str) -> None:
    (folder / CLASS_FILE).write_text(content)
    with pytest.raises(InputError, match=message):
        ADAPTER.samples(folder, "val")
    (finding,) = ADAPTER.check(folder, decode=False, progress=lambda items, _: items)
    assert not finding.ok


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("annotations/validation/ADE_val_00000003.png", "annotations/validation lacks 1 label maps, such as that of "),
        ("images/validation/ADE_val_00000003.jpg", "images/validation lacks 1 images, such as that of "),
    ],
)
def test_an_image_without_its_map_and_a_map_without_its_image_are_told(folder: Path, gone: str, message: str) -> None:
    (folder / gone).unlink()
    with pytest.raises(InputError, match=f"{message}ADE_val_00000003.*Restore them"):
        ADAPTER.samples(folder, "val")
    wrong = [f.text for f in ADAPTER.check(folder, decode=False, progress=lambda items, _: items) if not f.ok]
    assert len(wrong) == 1


def test_what_is_not_there_is_told(folder: Path) -> None:
    save(folder / "images/validation/ADE_val_00000001.png", np.zeros((2, 2), np.uint8))
    with pytest.raises(InputError, match=r"ADE_val_00000001.jpg and ADE_val_00000001.png are images of one name"):
        ADAPTER.samples(folder, "val")
    shutil.rmtree(folder / "release_test")
    with pytest.raises(InputError, match=r"No ADE20K test images under .*Unpack release_test.zip"):
        ADAPTER.samples(folder, "test")
    shutil.rmtree(folder / "images/training")
    shutil.rmtree(folder / "annotations")
    with pytest.raises(InputError, match=r"No ADE20K train images under .*harness toy"):
        ADAPTER.samples(folder, "train")
    with pytest.raises(UsageError, match="val"):
        ADAPTER.samples(folder, "vall")


def test_check_counts_and_opens_every_map(folder: Path) -> None:
    def findings(decode: bool) -> list:
        return ADAPTER.check(folder, decode=decode, progress=lambda items, title: items)

    assert all(finding.ok for finding in findings(decode=True))
    texts = [finding.text for finding in findings(decode=False)]
    assert texts == [
        f"classes: the 3 of {CLASS_FILE}",
        "train: 5 images (official: 20,210)",
        "val: 4 images (official: 2,000)",
        "test: 2 images (official: 3,352)",
    ]
    bad = {
        "annotations/training/ADE_train_00000002.png": np.zeros((SIZE[1], 3), np.uint8),
        "annotations/validation/ADE_val_00000001.png": np.full((SIZE[1], SIZE[0]), 4, np.uint8),
    }
    for file, pixels in bad.items():
        save(folder / file, pixels)
    (folder / "images/validation/ADE_val_00000004.jpg").write_bytes(b"no image")
    assert all(finding.ok for finding in findings(decode=False))  # nothing is opened
    wrong = [finding.text for finding in findings(decode=True) if not finding.ok]
    for file in (*bad, "images/validation/ADE_val_00000004.jpg"):
        assert any(file in text for text in wrong), file
    assert len(wrong) == 4  # the broken image as an image, and its size beside its map's
    assert "3 × 20 pixels, and image" in " ".join(wrong)
    assert "has the id 4, and there are 3 classes" in " ".join(wrong)


# Scores


def scene_folder(truth: Path, root: Path) -> Path:
    """The official sample images as a validation split."""
    for kind in ("images", "annotations"):
        (root / kind).mkdir(parents=True)
        (root / kind / "validation").symlink_to(truth / "ade20k" / kind)
    return root


def shifted(ids: np.ndarray, by: int) -> np.ndarray:
    """To the right, the left column repeated."""
    return np.concatenate([np.repeat(ids[:, :1], by, axis=1), ids[:, :-by]], axis=1)


@pytest.mark.parametrize("name", ["ade20k_sample", "ade20k_shifted"])
def test_published_scores(truth: Path, tmp_path: Path, name: str) -> None:
    case = next(case for case in json.loads((truth / "manifest.json").read_text())["cases"] if case["id"] == name)
    root, predictions = scene_folder(truth, tmp_path / "data"), truth / case["predictions"]
    if "transform" in case:
        assert case["transform"] == "shift each prediction right by 16 pixels, repeating the left edge column"
        for file in predictions.iterdir():
            save(tmp_path / "shifted" / file.name, shifted(np.asarray(Image.open(file)), 16))
        predictions = tmp_path / "shifted"
    rows = {row.metric: row for row in harness.score("ade20k", predictions, data=root)}
    names = {"mIoU_150": "mIoU_all_classes", "mIoU_present": "mIoU", "pixel_accuracy": "aAcc"}
    for metric, printed in case["expected"].items():
        value = rows[names[metric]].value / 100
        assert f"{value:.{len(printed.partition('.')[2])}f}" == printed, metric
    assert rows["mIoU"].predictions_sha256 == provenance.predictions_sha256(predictions)
    assert rows["mIoU"].n == 3


def test_every_class_has_its_iou(folder: Path) -> None:
    samples = ADAPTER.samples(folder, "val")
    found = ADAPTER.score(truths(samples), samples)
    assert [(m.metric, m.of, round(m.value)) for m in found] == [
        ("mIoU", "", 100),
        ("mIoU_all_classes", "", 100),
        ("mAcc", "", 100),
        ("aAcc", "", 100),
        ("IoU", "sky", 100),
        ("IoU", "tree", 100),
        ("IoU", "road", 100),
    ]
    assert {m.metric for m in found} == {metric.name for metric in ADAPTER.metrics}


def test_predictions_come_back_from_our_file_from_a_folder_and_from_a_zip(folder: Path, tmp_path: Path) -> None:
    samples = ADAPTER.samples(folder, "val")
    rng = np.random.default_rng(1)
    predicted = {s.id: rng.integers(1, 4, shape_of(s), dtype=np.uint8) for s in samples}
    writer = PredictionWriter(tmp_path / "parts", rank=0)
    writer.append({"id": name, "labels": png(ids)} for name, ids in predicted.items())
    writer.close()
    for name, ids in predicted.items():
        save(tmp_path / "maps" / f"{name}.png", ids)
    with zipfile.ZipFile(tmp_path / "maps.zip", "w") as archive:
        for file in (tmp_path / "maps").iterdir():
            archive.write(file, f"results/{file.name}")
    forms = [tmp_path / "parts" / "0-0.jsonl", tmp_path / "maps", tmp_path / "maps.zip"]
    scores = [[row.value for row in harness.score("ade20k", form, data=folder)] for form in forms]
    assert scores[0] == scores[1] == scores[2]
    assert 0 < scores[0][0] < 40
    (tmp_path / "maps" / "ADE_val_00000002.png").unlink()
    with pytest.raises(InputError, match=r"1 missing: ADE_val_00000002"):
        harness.score("ade20k", tmp_path / "maps", data=folder)
    with pytest.raises(InputError, match=r"none\.txt is neither a folder nor a zip file"):
        harness.score("ade20k", tmp_path / "none.txt", data=folder)


def png_with_palette(ids: np.ndarray) -> np.ndarray:
    """Ids as indices of colours that are other numbers."""
    content, image = io.BytesIO(), Image.fromarray(ids)
    image.putpalette([255 - number // 3 for number in range(768)])
    image.save(content, "PNG")
    return np.frombuffer(content.getvalue(), np.uint8)


@pytest.mark.parametrize(
    ("form", "mode"),
    [(png_with_palette, "P"), (lambda ids: png(ids.astype(np.uint16)), "I;16"), (lambda ids: png(ids > 0), "1")],
)
def test_maps_may_have_a_palette_sixteen_bits_or_one(folder: Path, form: Callable, mode: str) -> None:
    samples = ADAPTER.samples(folder, "val")
    file = Path(samples[0].inputs["map"])
    ids = (np.asarray(Image.open(file)) > 1).astype(np.uint8)
    save(file, ids)
    content = form(ids)
    assert Image.open(io.BytesIO(content.tobytes())).mode == mode
    predictions = truths(samples) | {samples[0].id: {"labels": content}}
    assert ADAPTER.score(predictions, samples)[0].value == 100
    file.write_bytes(content.tobytes())
    predictions[samples[0].id] = {"labels": png(ids)}
    assert ADAPTER.score(predictions, samples)[0].value == 100


WHITE = np.full((SIZE[1], SIZE[0], 3), 255, np.uint8)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (png(np.ones((SIZE[1], SIZE[0] + 1), np.uint8)), r"is 27 × 20 pixels, and label map .*is 26 × 20"),
        (png(np.full((SIZE[1], SIZE[0]), 4, np.uint8)), r"has the id 4, and there are 3 classes: ids 1 to 3"),
        (png(np.full((SIZE[1], SIZE[0]), 257, np.uint16)), r"has the id 257, and there are 3 classes"),
        (png(WHITE), r"is in colours \(PIL mode RGB\)"),
        (png(WHITE, "RGBA"), r"is in colours \(PIL mode RGBA\)"),
        (png(WHITE, "LA"), r"is in colours \(PIL mode LA\)"),
        (png(WHITE[..., 0])[:50], r"cannot be decoded \(.*Replace it with the original"),
        (np.arange(9, dtype=np.uint8), r"is not a PNG file"),
        (np.zeros((SIZE[1], SIZE[0]), np.uint8), r"has no bytes of a PNG map under 'labels'"),
        (None, r"has no bytes of a PNG map under 'labels' \(found: None\)"),
        ([137, 80], r"has no bytes of a PNG map"),
    ],
)
def test_a_prediction_that_is_no_map_of_the_image_is_told(folder: Path, labels: object, message: str) -> None:
    samples = ADAPTER.samples(folder, "val")
    predictions = truths(samples) | {samples[0].id: {"labels": labels}}
    with pytest.raises(InputError, match=rf"The prediction of ADE_val_00000001 ({message})"):
        ADAPTER.score(predictions, samples)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.full((SIZE[1], SIZE[0]), 4, np.uint8), r"has the id 4, and there are 3 classes"),
        (WHITE, r"is in colours \(PIL mode RGB\)"),
        (None, r"is absent"),
    ],
)
def test_a_label_map_that_is_none_is_told(folder: Path, pixels: np.ndarray | None, message: str) -> None:
    samples = ADAPTER.samples(folder, "val")
    predictions, file = truths(samples), Path(samples[0].inputs["map"])
    if pixels is None:
        file.unlink()
    else:
        save(file, pixels)
    with pytest.raises(InputError, match=rf"Label map .*ADE_val_00000001.png {message}"):
        ADAPTER.score(predictions, samples)


# Submission


def test_submission_is_a_zip_of_maps_in_the_images_sizes(folder: Path, tmp_path: Path) -> None:
    samples = ADAPTER.samples(folder, "test")
    maps = {s.id: np.full((9, 7 + number), number + 1, np.uint8) for number, s in enumerate(samples)}
    predictions = {name: {"labels": png_with_palette(ids)} for name, ids in maps.items()}
    found = ADAPTER.submission(predictions, samples, split="test", name="ours")
    assert found.filename == "ade20k_test_ours.zip"
    assert found == ADAPTER.submission(predictions, samples, split="test", name="ours")
    (tmp_path / found.filename).write_bytes(found.content)
    with zipfile.ZipFile(tmp_path / found.filename) as archive:
        assert archive.namelist() == ["ADE_test_00000001.png", "ADE_test_00000002.png"]
        for name, ids in maps.items():
            image = Image.open(io.BytesIO(archive.read(f"{name}.png")))
            assert image.mode == "L"
            assert (np.asarray(image) == ids).all()
    back = ADAPTER.read_official(tmp_path / found.filename)
    assert [record["id"] for record in back] == [s.id for s in samples]
    predictions[samples[1].id] = {"labels": png(np.ones((8, 9), np.uint8))}
    with pytest.raises(InputError, match=r"ADE_test_00000002 is 9 × 8 pixels, and image .* is 8 × 9"):
        ADAPTER.submission(predictions, samples, split="test", name="ours")
    samples = ADAPTER.samples(folder, "val")
    with pytest.raises(UsageError, match="The label maps of val are public"):
        ADAPTER.submission(truths(samples), samples, split="val", name="ours")


# Odd images


def test_an_image_of_one_pixel_goes_all_the_way(folder: Path) -> None:
    draw(folder, "val", "ADE_val_00000009", size=(1, 1))
    save(folder / "annotations/validation/ADE_val_00000009.png", np.ones((1, 1), np.uint8))
    save(folder / "release_test/testing/ADE_test_00000009.jpg", np.zeros((1, 1, 3), np.uint8))
    assert all(finding.ok for finding in ADAPTER.check(folder, decode=True, progress=lambda items, _: items))
    samples = ADAPTER.samples(folder, "val")
    assert samples[-1].id == "ADE_val_00000009"
    trained = ADAPTER.train_set(samples, setting(folder))[len(samples) - 1]
    assert trained["inputs"].shape[1:] == trained["data_samples"].gt_sem_seg.data.shape[1:]
    assert set(trained["data_samples"].gt_sem_seg.data.unique().tolist()) == {0}
    shown = ADAPTER.eval_set(samples, setting(folder))[len(samples) - 1]
    assert shown["data_samples"].ori_shape == (1, 1)
    assert ADAPTER.score(truths(samples), samples)[0].value == 100
    samples = ADAPTER.samples(folder, "test")
    predictions = {s.id: {"labels": png(np.ones((9, 7 + number), np.uint8))} for number, s in enumerate(samples[:2])}
    predictions[samples[2].id] = {"labels": png(np.ones((1, 1), np.uint8))}
    assert ADAPTER.submission(predictions, samples, split="test", name="ours").content


def test_a_very_wide_image_works_until_nothing_is_left_of_its_height(folder: Path) -> None:
    draw(folder, "val", "ADE_val_00000007", size=(20_000, 40))
    draw(folder, "val", "ADE_val_00000008", size=(20_000, 15))
    samples = ADAPTER.samples(folder, "val")[-2:]
    train, shown = ADAPTER.train_set(samples, setting(folder)), ADAPTER.eval_set(samples, setting(folder))
    height, width = train[0]["inputs"].shape[1:]
    assert 1 <= height <= 2
    assert width == 128
    assert shown[0]["inputs"].shape == (3, 1, 512)
    assert ADAPTER.score(truths(samples), samples)[0].value == 100
    thin = r"ADE_val_00000008.jpg is 20,000 × 15 pixels: made to fit {} × {}, nothing is left of its shorter side"
    with pytest.raises(InputError, match=thin.format(256, 64)):
        train[1]
    with pytest.raises(InputError, match=thin.format(512, 128)):
        shown[1]


# Recipes


def test_the_recipes_are_the_published_ones() -> None:
    large, giant, base = (RECIPES[name] for name in ("large", "giant", "base"))
    assert (large.head, large.image_size, large.scale, large.stride) == ("mask2former", 896, (3584, 896), 512)
    assert (large.lr, large.layer_decay, large.weight_decay, large.drop_path) == (2e-5, 0.9, 0.05, 0.3)
    assert (large.steps, large.warmup_steps, large.schedule, large.batch_size) == (80_000, 1_500, "poly", 16)
    assert large.start_lr == pytest.approx(2e-11)
    assert (large.ratio_range, large.cat_max_ratio, large.inference) == ((0.5, 2.0), 0.75, "slide")
    assert (large.tta_ratios, large.tta_flip) == ((1.0,), False)
    assert (giant.lr, giant.layer_decay, giant.drop_path, giant.start_lr) == (1e-5, 0.95, 0.5, pytest.approx(1e-11))
    same = ("lr", "start_lr", "layer_decay", "drop_path", "name", "source")
    assert set(giant.differs_from(large)) == set(same)
    assert set(base.differs_from(large)) == {"drop_path", "name", "source"}
    upernet = RECIPES["base_upernet"]
    assert (upernet.lr, upernet.layer_decay, upernet.drop_path, upernet.stride) == (5e-5, 0.75, 0.15, 341)
    assert (RECIPES["large_upernet"].lr, RECIPES["large_upernet"].layer_decay) == (4e-5, 0.9)
    assert upernet.source == "unilm beit2 upernet_beit_base_12_512_slide_160k_ade20k.py"


@pytest.mark.parametrize("size", ["base", "large", "giant"])
def test_multi_scale_recipes_differ_in_the_test_only(size: str) -> None:
    recipe = RECIPES[f"{size}_ms"]
    assert set(recipe.differs_from(RECIPES[size])) == {"name", "source", "tta_ratios", "tta_flip"}
    assert recipe.tta_flip
    sides = {"giant": [512, 640, 768, 896, 1024, 1152, 1280]}.get(size, [800, 832, 864, 896])
    assert [ratio * 896 for ratio in recipe.tta_ratios] == pytest.approx(sides)


def test_recipe_fields_are_set_and_checked() -> None:
    recipe = changed(RECIPES["nano"], ["tta_ratios=[0.5,1.0]", "tta_flip=true", "head=mask2former", "scale=[256,64]"])
    assert (recipe.tta_ratios, recipe.tta_flip, recipe.head, recipe.scale) == (
        (0.5, 1.0),
        True,
        "mask2former",
        (256, 64),
    )
    for assignment, message in (
        ("stride=129", "stride cannot be 129: from 1 to image_size"),
        ("tta_ratios=[]", "tta_ratios cannot be"),
        ("tta_ratios=[0.0]", "tta_ratios cannot be"),
        ("ratio_range=[2.0,0.5]", "ratio_range cannot be"),
        ("scale=[128]", "scale cannot be"),
        ("scale=[128,64.5]", "scale cannot be"),
        ("cat_max_ratio=0.0", "cat_max_ratio cannot be"),
    ):
        with pytest.raises(UsageError, match=message):
            changed(RECIPES["nano"], [assignment])
    with pytest.raises(UsageError, match="upernet"):
        changed(RECIPES["nano"], ["head=upernets"])
    assert dataclasses.replace(recipe, cat_max_ratio=1.0).cat_max_ratio == 1


# Photographs


def test_photographs_with_their_own_classes(truth: Path, tmp_path: Path) -> None:
    root = parsed_scenes(truth, tmp_path / "ADEChallengeData2016")
    assert all(f.ok for f in ADAPTER.check(root, decode=True, progress=lambda i, _: i) if not f.text.startswith("test"))
    samples = ADAPTER.samples(root, "val")
    assert (len(samples), len(ADAPTER.samples(root, "train"))) == (100, 100)
    names = samples[0].inputs["classes"]
    assert (len(names), names[0], names[-1]) == (133, "person", "rug-merged")
    # A person is class 1 in the first photograph, the rug is class 133.
    ids = np.asarray(Image.open(samples[0].inputs["map"]))
    assert {1, 133} <= set(np.unique(ids).tolist())
    predictions = {s.id: {"labels": np.frombuffer(encoded(shifted(read(s), 4)), np.uint8)} for s in samples}
    found = {m.of or m.metric: m for m in ADAPTER.score(predictions, samples)}
    assert 60 < found["mIoU"].value < found["aAcc"].value < 98
    assert found["mIoU_all_classes"].value < found["mIoU"].value
    low, high = found["mIoU"].interval(seed=0, resamples=100)
    assert low < high


def read(sample: tasks.Sample) -> np.ndarray:
    return np.asarray(Image.open(sample.inputs["map"]))
