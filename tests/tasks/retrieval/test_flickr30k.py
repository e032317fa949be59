from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import harness
import tasks
from backbones import UsageError
from harness.predictions import read
from tests.tasks.captioned import write_flickr30k

TUNED, ZERO_SHOT = tasks.get("flickr30k_retrieval"), tasks.get("flickr30k_zero_shot")
FAST = ("image_size=16", "micro_batch=8", "workers=0", "precision=fp32")
TRAINING = ("batch_size=8", "epochs=1", "warmup_epochs=0")


def test_zero_shot_recipes_do_not_train() -> None:
    assert {recipe.epochs for recipe in ZERO_SHOT.recipes.values()} == {0}
    assert [ZERO_SHOT.recipes[size].image_size for size in ("base", "large", "giant", "nano")] == [224, 224, 224, 80]


def test_splits_have_the_official_sizes() -> None:
    assert {split: tuple(count) for split, count in TUNED.sizes.items()} == {
        "train": (29_000, 145_000),
        "val": (1_014, 5_070),
        "test": (1_000, 5_000),
    }
    assert list(ZERO_SHOT.splits) == ["val", "test"]


def test_both_tasks_score_the_same_samples(tmp_path: Path) -> None:
    root = write_flickr30k(tmp_path)
    samples = TUNED.samples(root, "test")
    assert samples == ZERO_SHOT.samples(root, "test")
    assert [sample.id for sample in samples[:5]] == ["image:3", "image:7", "image:11", "image:15", "text:30"]
    assert samples[0].inputs == {"image": "flickr30k-images/7003.jpg"}


@pytest.mark.training
def test_zero_shot_scores_the_weights_that_a_fine_tuning_left(spm: Path, tmp_path: Path) -> None:
    root = write_flickr30k(tmp_path / "flickr30k")
    options = {"backbone": "multiway_nano", "tokenizer": spm, "data": tmp_path, "out": tmp_path / "out"}
    tuned = harness.run("flickr30k_retrieval", changes=[*FAST, *TRAINING], **options)
    folders = [
        tmp_path / "out" / name / "multiway_nano-seed0" for name in ("flickr30k_retrieval", "flickr30k_zero_shot")
    ]
    weights = folders[0] / "checkpoints" / "final.safetensors"
    rows = harness.run("flickr30k_zero_shot", weights=weights, changes=FAST, **options)
    assert [(row.metric, row.value, row.n) for row in rows] == [(row.metric, row.value, row.n) for row in tuned]
    assert {row.data_sha256 for row in rows} == {row.data_sha256 for row in tuned}
    # What the weights were trained with goes along in their file.
    assert rows[0].task == "flickr30k_zero_shot"
    assert (rows[0].weights, rows[0].train_seconds) == (tuned[0].weights, tuned[0].train_seconds)
    assert not (folders[1] / "checkpoints").exists()
    first, second = (read(folder / "predictions" / "test.jsonl") for folder in folders)
    assert [record["feature"].tolist() for record in first] == [record["feature"].tolist() for record in second]
    # A released checkpoint of the contrastive stage: the same names, in a pickle, with pretraining heads beside them.
    state = load_file(weights) | {"mlm_head.bias": torch.zeros(4)}
    torch.save({"model": state}, tmp_path / "itc.pth")
    again = harness.run("flickr30k_zero_shot", weights=tmp_path / "itc.pth", name="itc", changes=FAST, **options)
    assert [row.value for row in again] == [row.value for row in rows]
    assert root.is_dir()


def test_zero_shot_needs_weights_with_heads(spm: Path, tmp_path: Path) -> None:
    write_flickr30k(tmp_path)
    options = {"backbone": "multiway_nano", "tokenizer": spm, "data": tmp_path, "out": tmp_path / "out"}
    options |= {"weights": "none"}
    with pytest.raises(UsageError, match="does not fine-tune: flickr30k_zero_shot needs --weights"):
        harness.run("flickr30k_zero_shot", **options)


def test_zero_shot_does_not_fine_tune(spm: Path, tmp_path: Path) -> None:
    write_flickr30k(tmp_path)
    options = {"backbone": "multiway_nano", "tokenizer": spm, "data": tmp_path, "out": tmp_path / "out"}
    with pytest.raises(UsageError, match=r"no training split.* take flickr30k_retrieval"):
        harness.run("flickr30k_zero_shot", changes=[*FAST, *TRAINING, "lr=1e-3"], **options)


def test_check_looks_at_the_splits_that_are_scored(tmp_path: Path) -> None:
    write_flickr30k(tmp_path)
    texts = [finding.text for finding in harness.check("flickr30k_zero_shot", data=tmp_path)["flickr30k_zero_shot"]]
    assert texts == [
        "val: 4 images (official: 1,014), 8 captions (official: 5,070), 2 captions an image",
        "test: 4 images (official: 1,000), 12 captions (official: 5,000), 3 captions an image",
    ]
