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
from tasks.adapter import Sample, TaskContext
from tasks.recipe import changed
from tasks.segmentation.ade20k import RECIPES
from tasks.segmentation.label_maps import encoded
from tests.support.label_maps import SIZE, draw, draw_folder, png, png_with_palette, save
from tests.support.photographs import parsed_scenes

pytestmark = pytest.mark.usefixtures("few_draws")

ADAPTER = tasks.get("ade20k")
CLASSES = ("sky", "tree", "road")  # of `folder`: the first of each one's names


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return draw_folder(tmp_path / "ADEChallengeData2016")


def truths(samples: list[Sample]) -> dict[str, dict]:
    """Predictions that are the label maps."""
    return {s.id: {"png": np.fromfile(s.inputs["map"], np.uint8)} for s in samples}


def label_of(sample: Sample) -> np.ndarray:
    return np.asarray(Image.open(sample.inputs["map"]))


def context(root: Path) -> TaskContext:
    return TaskContext(root=root, recipe=RECIPES["nano"], labels=ADAPTER.labels(root))


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


def test_annotations_alone_are_enough_to_score(folder: Path, tmp_path: Path) -> None:
    samples = ADAPTER.samples(folder, "val")
    for sample in samples:
        shutil.copy(sample.inputs["map"], tmp_path / f"{sample.id}.png")
    rows = [harness.score("ade20k", tmp_path, data=folder)[0]]
    shutil.rmtree(folder / "images")
    rows.append(harness.score("ade20k", tmp_path, data=folder)[0])
    assert rows[1].value == 100
    assert rows[1].data_sha256 == rows[0].data_sha256
    wrong = [found.text for found in ADAPTER.check(folder, decode=False, progress=lambda i, _: i) if not found.ok]
    assert [text.split(",")[0] for text in wrong] == ["train: 5 of 5 images absent", "val: 4 of 4 images absent"]


def test_maps_that_number_the_classes_from_0_are_refused(folder: Path) -> None:
    samples = ADAPTER.samples(folder, "val")
    below = {s.id: {"png": png(np.maximum(label_of(s), 1) - np.uint8(1))} for s in samples}
    fits = sum(int((label_of(sample) > 1).sum()) for sample in samples)
    with pytest.raises(InputError, match=rf"from 0: .* 0 are right as they are, and {fits:,} with 1 added.*add 1"):
        ADAPTER.score(below, samples, labels=CLASSES)


def test_maps_with_pixels_of_no_class_are_scored(folder: Path) -> None:
    """Of right pixels half are taken away; and a map without any class is wrong everywhere, which says nothing."""
    samples = ADAPTER.samples(folder, "val")
    half = {s.id: {"png": png(label_of(s) * (np.arange(SIZE[1]) % 2 > 0)[:, None].astype(np.uint8))} for s in samples}
    accuracy = {m.metric: m.value for m in ADAPTER.score(half, samples, labels=CLASSES)}["aAcc"]
    assert 40 < accuracy < 60
    none = {s.id: {"png": png(np.zeros_like(label_of(s)))} for s in samples}
    assert ADAPTER.score(none, samples, labels=CLASSES)[0].value == 0


def test_every_class_has_its_iou(folder: Path) -> None:
    samples = ADAPTER.samples(folder, "val")
    found = ADAPTER.score(truths(samples), samples, labels=CLASSES)
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


def test_records_of_older_files_have_the_map_under_labels(folder: Path) -> None:
    samples = ADAPTER.samples(folder, "val")
    old = {name: {"labels": record["png"]} for name, record in truths(samples).items()}
    assert ADAPTER.score(old, samples, labels=CLASSES)[0].value == 100


@pytest.mark.slow
def test_predictions_come_back_from_our_file_from_a_folder_and_from_a_zip(folder: Path, tmp_path: Path) -> None:
    samples = ADAPTER.samples(folder, "val")
    rng = np.random.default_rng(1)
    predicted = {s.id: rng.integers(1, 4, label_of(s).shape, dtype=np.uint8) for s in samples}
    writer = PredictionWriter(tmp_path / "parts", rank=0)
    writer.append({"id": name, "png": png(ids)} for name, ids in predicted.items())
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
    none = tmp_path / "none.txt"
    none.write_text("none")
    with pytest.raises(InputError, match=r"none\.txt is neither a folder nor a zip file"):
        harness.score("ade20k", none, data=folder)


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
    predictions = truths(samples) | {samples[0].id: {"png": content}}
    assert ADAPTER.score(predictions, samples, labels=CLASSES)[0].value == 100
    file.write_bytes(content.tobytes())
    predictions[samples[0].id] = {"png": png(ids)}
    assert ADAPTER.score(predictions, samples, labels=CLASSES)[0].value == 100


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
        (np.zeros((SIZE[1], SIZE[0]), np.uint8), r"has no bytes of a PNG map under 'png'"),
        (None, r"has no bytes of a PNG map under 'png' \(found: None\)"),
        ([137, 80], r"has no bytes of a PNG map"),
    ],
)
def test_a_prediction_that_is_no_map_of_the_image_is_told(folder: Path, labels: object, message: str) -> None:
    samples = ADAPTER.samples(folder, "val")
    predictions = truths(samples) | {samples[0].id: {"png": labels}}
    with pytest.raises(InputError, match=rf"The prediction of ADE_val_00000001 ({message})"):
        ADAPTER.score(predictions, samples, labels=CLASSES)


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
        ADAPTER.score(predictions, samples, labels=CLASSES)


# Submission


def test_submission_is_a_zip_of_maps_in_the_images_sizes(folder: Path, tmp_path: Path) -> None:
    samples = ADAPTER.samples(folder, "test")
    maps = {s.id: np.full((9, 7 + number), number + 1, np.uint8) for number, s in enumerate(samples)}
    predictions = {name: {"png": png_with_palette(ids)} for name, ids in maps.items()}
    (found,) = ADAPTER.submission(predictions, samples, split="test", name="ours", labels=CLASSES)
    assert found.filename == "ade20k_test_ours.zip"
    assert [found] == ADAPTER.submission(predictions, samples, split="test", name="ours", labels=CLASSES)
    (tmp_path / found.filename).write_bytes(found.content)
    with zipfile.ZipFile(tmp_path / found.filename) as archive:
        assert archive.namelist() == ["ADE_test_00000001.png", "ADE_test_00000002.png"]
        for name, ids in maps.items():
            image = Image.open(io.BytesIO(archive.read(f"{name}.png")))
            assert image.mode == "L"
            assert (np.asarray(image) == ids).all()
    back = ADAPTER.read_official(tmp_path / found.filename)
    assert [record["id"] for record in back] == [s.id for s in samples]
    predictions[samples[1].id] = {"png": png(np.ones((8, 9), np.uint8))}
    with pytest.raises(InputError, match=r"ADE_test_00000002 is 9 × 8 pixels, and image .* is 8 × 9"):
        ADAPTER.submission(predictions, samples, split="test", name="ours", labels=CLASSES)
    samples = ADAPTER.samples(folder, "val")
    with pytest.raises(UsageError, match="The truth of val is public"):
        ADAPTER.submission(truths(samples), samples, split="val", name="ours")


# Odd images


@pytest.mark.slow
def test_an_image_of_one_pixel_goes_all_the_way(folder: Path) -> None:
    draw(folder, "val", "ADE_val_00000009", size=(1, 1))
    save(folder / "annotations/validation/ADE_val_00000009.png", np.ones((1, 1), np.uint8))
    save(folder / "release_test/testing/ADE_test_00000009.jpg", np.zeros((1, 1, 3), np.uint8))
    assert all(finding.ok for finding in ADAPTER.check(folder, decode=True, progress=lambda items, _: items))
    samples = ADAPTER.samples(folder, "val")
    assert samples[-1].id == "ADE_val_00000009"
    trained = ADAPTER.train_set(samples, context(folder))[len(samples) - 1]
    assert trained["inputs"].shape[1:] == trained["data_samples"].gt_sem_seg.data.shape[1:]
    assert set(trained["data_samples"].gt_sem_seg.data.unique().tolist()) == {0}
    shown = ADAPTER.eval_set(samples, context(folder))[len(samples) - 1]
    assert shown["data_samples"].ori_shape == (1, 1)
    assert ADAPTER.score(truths(samples), samples, labels=CLASSES)[0].value == 100
    samples = ADAPTER.samples(folder, "test")
    predictions = {s.id: {"png": png(np.ones((9, 7 + number), np.uint8))} for number, s in enumerate(samples[:2])}
    predictions[samples[2].id] = {"png": png(np.ones((1, 1), np.uint8))}
    assert ADAPTER.submission(predictions, samples, split="test", name="ours", labels=CLASSES)[0].content


@pytest.mark.slow
def test_a_very_wide_image_works_until_nothing_is_left_of_its_height(folder: Path) -> None:
    draw(folder, "val", "ADE_val_00000007", size=(20_000, 40))
    draw(folder, "val", "ADE_val_00000008", size=(20_000, 15))
    samples = ADAPTER.samples(folder, "val")[-2:]
    train, shown = ADAPTER.train_set(samples, context(folder)), ADAPTER.eval_set(samples, context(folder))
    height, width = train[0]["inputs"].shape[1:]
    assert 1 <= height <= 2
    assert width == 128
    assert shown[0]["inputs"][0].shape == (3, 1, 512)
    assert ADAPTER.score(truths(samples), samples, labels=CLASSES)[0].value == 100
    thin = r"ADE_val_00000008.jpg is 20,000 × 15 pixels: made to fit {} × {}, nothing is left of its shorter side"
    with pytest.raises(InputError, match=thin.format(384, 96)):
        train[1]
    with pytest.raises(InputError, match=thin.format(512, 128)):
        shown[1]


# Recipes


def test_the_recipes_are_the_published_ones() -> None:
    large, giant, base = (RECIPES[name] for name in ("large", "giant", "base"))
    assert (large.head, large.image_size, large.scale, large.stride) == ("mask2former", 896, (3584, 896), 512)
    assert (large.lr, large.layer_decay, large.weight_decay, large.drop_path) == (2e-5, 0.9, 0.05, 0.3)
    assert (large.steps, large.warmup_steps, large.schedule, large.batch_size) == (160_000, 1_500, "poly", 16)
    assert (large.test_multiple, large.adapter_norm) == (32, "batch")
    assert large.source.endswith("/mask2former_beitv2_adapter_large_896_160k_ade20k_ss.py")
    stuff = RECIPES["large_stuff"]
    assert stuff.source.endswith("/mask2former_beitv2_adapter_large_896_80k_ade20k_ss.py")
    assert set(stuff.differs_from(large)) == {"steps", "tta_flip"}
    assert (stuff.steps, stuff.tta_flip, giant.steps) == (80_000, True, 80_000)
    first = RECIPES["large_cocostuff"]
    assert first.source.endswith("configs/coco_stuff164k/mask2former_beitv2_adapter_large_896_80k_cocostuff164k_ss.py")
    assert first.differs_from(large) == ["steps"]
    assert large.start_lr == pytest.approx(2e-11)
    assert (large.ratio_range, large.cat_max_ratio, large.inference) == ((0.5, 2.0), 0.75, "slide")
    assert (large.tta_ratios, large.tta_flip) == ((1.0,), False)
    assert (giant.lr, giant.layer_decay, giant.drop_path, giant.start_lr) == (1e-5, 0.95, 0.5, pytest.approx(1e-11))
    assert set(giant.differs_from(large)) == {"lr", "start_lr", "layer_decay", "drop_path", "steps"}
    assert base.differs_from(large) == ["drop_path", "micro_batch"]  # which batch normalisation sees
    upernet = RECIPES["base_upernet"]
    assert (upernet.layers, RECIPES["large_upernet"].layers) == ((3, 5, 7, 11), (7, 11, 15, 23))
    assert (upernet.lr, upernet.layer_decay, upernet.drop_path, upernet.stride) == (5e-5, 0.75, 0.15, 341)
    assert (RECIPES["large_upernet"].lr, RECIPES["large_upernet"].layer_decay) == (4e-5, 0.9)
    assert upernet.source == "unilm beit2 upernet_beit_base_12_512_slide_160k_ade20k.py"


def test_every_recipe_with_a_source_names_what_it_does_otherwise() -> None:
    for name, recipe in RECIPES.items():
        assert any("mean and std 0.5" in text for text in recipe.deviations) == (name != "nano")
    assert any("COCO-Stuff" in text for text in RECIPES["giant"].deviations)


@pytest.mark.parametrize("size", ["base", "large", "large_stuff", "giant"])
def test_multi_scale_recipes_differ_in_the_test_only(size: str) -> None:
    recipe = RECIPES[f"{size}_ms"]
    assert set(recipe.differs_from(RECIPES[size])) - {"tta_flip"} == {"tta_ratios"}
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
        ("test_multiple=0", r"test_multiple is in \[1, 1024\], not 0"),
        ("layers=[1,3]", "layers cannot be .*: four layers"),
        ("adapter_norm=layer", "Unknown value of adapter_norm"),
        ("tta_ratios=[]", "tta_ratios cannot be"),
        ("tta_ratios=[0.0]", r"tta_ratios is in \(0, 10\]"),
        ("ratio_range=[2.0,0.5]", "ratio_range"),
        ("scale=[128]", "scale"),
        ("scale=[128,64.5]", "scale"),
        ("cat_max_ratio=0.0", "cat_max_ratio"),
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
    names = ADAPTER.labels(root)
    assert (len(names), names[0], names[-1]) == (133, "person", "rug-merged")
    # A person is class 1 in the first photograph, the rug is class 133.
    ids = np.asarray(Image.open(samples[0].inputs["map"]))
    assert {1, 133} <= set(np.unique(ids).tolist())
    predictions = {s.id: {"png": np.frombuffer(encoded(shifted(label_of(s), 4)), np.uint8)} for s in samples}
    found = {m.of or m.metric: m for m in ADAPTER.score(predictions, samples, labels=names)}
    assert 60 < found["mIoU"].value < found["aAcc"].value < 98
    assert found["mIoU_all_classes"].value < found["mIoU"].value
    low, high = found["mIoU"].interval(seed=0, resamples=100)
    assert low < high
