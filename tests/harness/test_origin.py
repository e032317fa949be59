"""Origin of the numbers in rows, whichever commands made them."""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import shutil
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import harness
import tasks
from backbones import InputError, UsageError, weights
from harness import origin
from harness.experiment import plan
from harness.fingerprint import Fingerprint
from harness.provenance import data_sha256, stored
from leaderboards.rows import TRAINED, ResultRow
from tests.conftest import FAST
from tests.harness.test_run import CIRCUMSTANCES
from tests.tasks.reasoning.files import statements

# Of one fine-tuning; what `predict` took and when is another matter.
TIMES = CIRCUMSTANCES - {"train_seconds", "train_peak_memory", "finetuned_sha256"}
OPTIONS = {"backbone": "multiway_nano", "changes": FAST}


@pytest.fixture(scope="module")
def tuned(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ResultRow]:
    """The weights of a run that started from a file, and its row."""
    out = tmp_path_factory.mktemp("tuned")
    start = out / "beit3_base_patch16_224.pth"
    weights.save(plan("imagenet", data=colours, **OPTIONS).build_model().state_dict(), out / "start.safetensors")
    (out / "start.safetensors").rename(start.with_suffix(".safetensors"))
    rows = harness.run(
        "imagenet",
        data=colours,
        out=out,
        seed=4,
        weights=start.with_suffix(".safetensors"),
        verify_images=True,
        **OPTIONS,
    )
    return out / "imagenet" / "multiway_nano-seed4" / "checkpoints" / "final.safetensors", rows[0]


def scored(path: Path, colours: Path) -> ResultRow:
    return harness.score("imagenet", path, data=colours)[0]


@pytest.mark.training
def test_a_run_says_what_its_weights_were_trained_with(tuned: tuple[Path, ResultRow], colours: Path) -> None:
    final, row = tuned
    altered = "image_size epochs warmup_epochs steps batch_size"
    assert (row.recipe, row.recipe_altered, row.seed) == ("multiway_nano_imagenet", altered, 4)
    assert (row.weights, row.released) == ("beit3_base_patch16_224.safetensors", "beit3_base_patch16_224")
    assert (row.trained_on, row.leak) == ("coco_captioning:train imagenet:train", "")
    assert row.weights_sha256 == weights.sha256(final.parents[3] / row.weights)
    assert row.finetuned_sha256 == weights.sha256(final)
    assert (row.train_processes, row.train_micro_batch, row.train_steps) == (1, 4, 6)
    assert row.train_precision in ("bf16", "fp32")
    assert row.train_seconds > 0
    assert row.train_package == row.predict_package != ""
    assert "torch=" in row.train_libraries
    train = tasks.get("imagenet").samples(colours, "train")
    assert row.train_data_sha256 == data_sha256(tasks.get("imagenet"), train, colours)
    assert len(row.images_sha256) == len(row.train_images_sha256) == 64


def test_predict_and_score_give_the_row_of_the_run(
    tuned: tuple[Path, ResultRow], colours: Path, tmp_path: Path
) -> None:
    final, row = tuned
    path = harness.predict("imagenet", weights=final, data=colours, out=tmp_path, verify_images=True, **OPTIONS)
    found = scored(path, colours)
    same = {name: value for name, value in vars(row).items() if name not in TIMES}
    assert {name: vars(found)[name] for name in same} == same


def test_a_prediction_says_all_that_shaped_it(tuned: tuple[Path, ResultRow], colours: Path, tmp_path: Path) -> None:
    final, row = tuned
    linear = {"head": "linear", "prompt": "{}", "max_tokens": 64}
    assert json.loads(row.predict_fields) == {"crop_pct": 1.0, "image_size": 16} | linear
    assert (row.predict_recipe, row.predict_altered) == ("multiway_nano_imagenet", "image_size")
    changes = (*FAST, "crop_pct=0.5", "lr=1e-9", "mixup=0.1")
    path = harness.predict("imagenet", weights=final, data=colours, out=tmp_path, **OPTIONS | {"changes": changes})
    found = scored(path, colours)
    assert json.loads(found.predict_fields) == {"crop_pct": 0.5, "image_size": 16} | linear
    assert found.predict_altered == "image_size crop_pct"  # nothing trained at that rate
    assert (found.recipe_altered, found.recipe_sha256) == (row.recipe_altered, row.recipe_sha256)
    assert found.images_sha256 == ""


@pytest.mark.training
def test_weights_of_others_have_no_training(tuned: tuple[Path, ResultRow], colours: Path, tmp_path: Path) -> None:
    """Released files, also with metadata of another program: their names, their hash, and nothing made up."""
    file = tmp_path / "beit3_base_patch16_224_in1k.safetensors"
    for metadata in ({"trained": "last week"}, {"trained": "[1]"}, {"trained": '{"task": "x", "n": 3}'}, {}):
        weights.save(load_file(tuned[0]), file, metadata=metadata)
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        row = scored(harness.predict("imagenet", weights=file, data=colours, out=tmp_path / "out", **OPTIONS), colours)
        assert (row.task, row.weights, row.weights_sha256) == ("imagenet", file.name, weights.sha256(file))
        assert row.released == "beit3_base_patch16_224_in1k"
        assert (row.finetuned_sha256, row.recipe, row.seed, row.train_seconds) == ("", "", None, None)
        assert row.predict_recipe == "multiway_nano_imagenet"


def test_a_run_that_does_not_fine_tune_has_no_recipe(
    tuned: tuple[Path, ResultRow], colours: Path, tmp_path: Path
) -> None:
    """The weights' own is told, of weights that have one."""
    changes = (*FAST, "epochs=0", "warmup_epochs=0")
    plain = tmp_path / "plain.safetensors"
    weights.save(load_file(tuned[0]), plain)
    for file, recipe, seed in ((plain, "", None), (tuned[0], "multiway_nano_imagenet", 4)):
        row = harness.run(
            "imagenet", weights=file, data=colours, out=tmp_path, name=file.stem, **OPTIONS | {"changes": changes}
        )[0]
        assert (row.recipe, row.seed) == (recipe, seed)
        assert row.predict_recipe == "multiway_nano_imagenet"


def test_pretraining_is_no_fine_tuning(colours: Path, tmp_path: Path) -> None:
    """The pretraining's recipe, seed and steps are not those of a fine-tuning, in rows of either kind of weights."""
    file = tmp_path / "final.safetensors"
    columns = {"pretraining": "nano_contrastive", "seed": 3, "train_steps": 400, "trained_on": "coco_captioning:train"}
    weights.save({"beit3.x": torch.zeros(1)}, file, metadata=stored(columns))
    row = origin.of_weights(file, "5ha")
    assert (row["pretraining"], row["weights"], row["weights_sha256"]) == (
        "nano_contrastive",
        "final.safetensors",
        "5ha",
    )
    assert row["trained_on"] == "coco_captioning:train"
    assert not {"recipe", "seed", "train_steps", "finetuned_sha256"} & set(row)
    begun = origin.of_training(
        plan("imagenet", data=colours, weights=file, seed=4, **OPTIONS),
        weights_sha256="5ha",
        data=Fingerprint(data="d", images={}),
    )
    assert (begun["pretraining"], begun["recipe"], begun["seed"]) == ("nano_contrastive", "multiway_nano_imagenet", 4)


def test_columns_of_training_are_columns() -> None:
    """A name that changes in one place only would be left out of rows without a word."""
    assert set(TRAINED) <= {column.name for column in dataclasses.fields(ResultRow)}
    assert json.loads(stored({"recipe": "Größe"})["trained"]) == {"recipe": "Größe"}


@pytest.mark.training
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="resident memory is reset on Linux alone")
def test_peak_memory_is_that_of_the_stage(tuned: tuple[Path, ResultRow], colours: Path, tmp_path: Path) -> None:
    block = bytearray(2**31)
    block[:: 2**12] = bytes(2**19)  # so that the memory is really used
    del block
    pages = int(Path("/proc/self/statm").read_text().split()[1])  # resident after the tests before this one
    path = harness.predict("imagenet", weights=tuned[0], data=colours, out=tmp_path, **OPTIONS)
    assert 2**26 < scored(path, colours).peak_memory < pages * resource.getpagesize() + 2**31


def test_recipes_know_what_shapes_a_prediction() -> None:
    shaping = {
        "imagenet": {"image_size", "crop_pct", "head", "prompt", "max_tokens"},
        "nlvr2": {"image_size", "max_tokens"},
        "vqav2": {"image_size", "max_tokens"},
        "coco_retrieval": {"image_size", "max_tokens"},
        "coco_captioning": {"image_size", "beams", "length_penalty", "caption_length"},
        "nocaps": {"image_size", "beams", "length_penalty", "caption_length"},
    }
    for task, names in shaping.items():
        assert set(tasks.get(task).recipes["base"].predicting()) == names, task
    for task, needed in {
        "coco_detection": {"image_size", "test_size", "test_scales", "test_flip", "soft_nms", "nms_iou"},
        "ade20k": {"image_size", "head", "inference", "stride", "scale", "tta_ratios", "tta_flip"},
    }.items():
        assert needed <= set(tasks.get(task).recipes["base"].predicting()), task
    for task in tasks.names():
        for recipe in tasks.get(task).recipes.values():
            assert set(recipe.ONLY_TRAINING) <= {field.name for field in dataclasses.fields(recipe)}


# The data of a run's folder


def later(root: Path, seconds: float) -> None:
    """Every image as if it had been written so much later."""
    for path in root.rglob("*.png"):
        os.utime(path, (time.time(), path.stat().st_mtime + seconds))


NLVR2 = {"backbone": "multiway_nano", "changes": (*FAST, "epochs=1", "warmup_epochs=0", "precision=fp32")}


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    root = statements(tmp_path / "nlvr2", "train", sets=2)
    return statements(statements(root, "dev", sets=2), "test-P", sets=2)


@pytest.mark.training
def test_several_splits_are_predicted_with_one_fine_tuning(pairs: Path, spm: Path, tmp_path: Path) -> None:
    options = {**NLVR2, "data": pairs, "tokenizer": spm, "out": tmp_path / "out"}
    first = harness.run("nlvr2", split="dev", **options)
    folder = tmp_path / "out" / "nlvr2" / "multiway_nano-seed0"
    final = folder / "checkpoints" / "final.safetensors"
    stamp, predicted = final.stat().st_mtime_ns, (folder / "predictions" / "dev.jsonl").stat().st_mtime_ns
    rows = harness.run("nlvr2", split=["dev", "test-P"], **options)
    assert final.stat().st_mtime_ns == stamp
    assert (folder / "predictions" / "dev.jsonl").stat().st_mtime_ns == predicted
    assert rows[:2] == first
    assert [(row.split, row.metric) for row in rows] == [
        ("dev", "accuracy"), ("dev", "consistency"), ("test-P", "accuracy"), ("test-P", "consistency"),
    ]  # fmt: skip
    assert len({row.run_id for row in rows}) == 1
    assert rows[0].data_sha256 != rows[2].data_sha256
    files = [folder / "predictions" / f"{split}.jsonl" for split in ("dev", "test-P")]
    assert harness.score("nlvr2", files, split=["dev", "test-P"], data=pairs) == rows
    with pytest.raises(UsageError, match=r"2 predictions files and 1 splits \(dev\): give a --split for each"):
        harness.score("nlvr2", files, data=pairs)
    found = harness.predict("nlvr2", weights=final, split=["test-P", "dev"], **options)
    assert [path.read_bytes() for path in found] == [file.read_bytes() for file in files[::-1]]


@pytest.mark.training
@pytest.mark.parametrize("split", ["train", "dev"])
def test_a_folder_is_not_reused_for_a_sentence_that_changed(pairs: Path, spm: Path, tmp_path: Path, split: str) -> None:
    options = {**NLVR2, "data": pairs, "tokenizer": spm, "out": tmp_path / "out"}
    harness.run("nlvr2", split="dev", **options)
    file = pairs / "nlvr" / "nlvr2" / "data" / f"{split}.json"
    file.write_text(file.read_text().replace("redder", "bluer", 1))
    with pytest.raises(InputError, match=f"other data: the ids, texts, image paths or annotations of {split} have"):
        harness.run("nlvr2", split="dev", **options)
    # A split that this folder has not seen is no obstacle, and has no part in it.
    if split == "dev":
        assert {row.split for row in harness.run("nlvr2", split="test-P", **options)} == {"test-P"}


@pytest.mark.training
def test_a_folder_is_not_reused_for_images_that_changed(pairs: Path, spm: Path, tmp_path: Path) -> None:
    options = {**NLVR2, "data": pairs, "tokenizer": spm, "out": tmp_path / "out"}
    before = harness.run("nlvr2", split="dev", **options)
    later(pairs / "dev", 0.001)  # copies and archives lose parts of a second
    assert harness.run("nlvr2", split="dev", **options) == before
    later(pairs / "dev", 10)
    with pytest.raises(InputError, match="image files of dev have other sizes or times"):
        harness.run("nlvr2", split="dev", **options)


@pytest.mark.training
def test_verified_images_are_compared_by_content(pairs: Path, spm: Path, tmp_path: Path) -> None:
    options = {**NLVR2, "data": pairs, "tokenizer": spm, "out": tmp_path / "out", "split": "dev"}
    plain = harness.run("nlvr2", **options)
    assert plain[0].images_sha256 == ""
    before = harness.run("nlvr2", verify_images=True, **options)
    assert [dataclasses.replace(row, images_sha256="") for row in before] == plain
    later(pairs, 10)
    assert harness.run("nlvr2", verify_images=True, **options) == before
    image = next((pairs / "dev").glob("*.png"))
    image.write_bytes(image.read_bytes() + b" ")
    with pytest.raises(InputError, match="the contents of image files of dev have changed"):
        harness.run("nlvr2", verify_images=True, **options)
    moved = shutil.copytree(pairs, tmp_path / "moved")
    image.unlink()
    with pytest.raises(InputError, match=rf"Image .*{image.name} cannot be read"):
        harness.run("nlvr2", verify_images=True, **options | {"name": "other"})
    paths = [
        harness.predict(
            "nlvr2", weights=tmp_path / "out/nlvr2/multiway_nano-seed0/checkpoints/final.safetensors",
            **options | {"data": moved, "out": tmp_path / "more"}, verify_images=True,
        )
    ]  # fmt: skip
    found = harness.score("nlvr2", paths, split=["dev"], data=moved)
    assert found[0].data_sha256 == before[0].data_sha256
    assert found[0].images_sha256 not in ("", before[0].images_sha256)
