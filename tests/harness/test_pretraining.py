"""Stages of pretraining from data to weights, interrupted and shared among processes."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

import backbones
from backbones import weights
from backbones.errors import InputError, UsageError
from harness import origin, peak, pretraining, pretraining_log
from harness.pretraining_plan import CLUSTERS, TOKENIZER, plan
from harness.workdir import CHECKPOINTS, FINAL
from tasks.pretraining import recipes, toy_data
from tests.support.runs import execute

SPEED = ("samples_per_second", "peak_share")
SHORT = ("steps=3", "warmup_steps=1", "batch_size=4", "micro_batch=4", "precision=fp32")
CODES = ("codes=16", "code_dim=4", "encoder_layers=1")  # a small tokenizer

pytestmark = pytest.mark.training


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_data.write(tmp_path_factory.mktemp("pretraining") / "toy", scale=0.001)


def run(recipe: str, data: Path, out: Path, *changes: str, **options: object) -> pretraining.Pretrained:
    stage = plan(recipe, data=str(data), out=out, changes=(*SHORT, *changes), **options)
    return pretraining.run(stage)


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chain, each stage with what those before it made."""
    out = tmp_path_factory.mktemp("chain")
    run("nano_teacher", data, out)
    run("nano_tokenizer", data, out, *CODES)
    run("nano_masked", data, out)
    run("nano_contrastive", data, out)
    return out


def final(out: Path, recipe: str) -> dict[str, torch.Tensor]:
    return weights.read(out / recipe / CHECKPOINTS / FINAL)


def figures(out: Path, recipe: str) -> list[dict[str, str]]:
    with (out / recipe / pretraining_log.ROWS).open() as file:
        return list(csv.DictReader(file))


def test_each_stage_begins_with_what_another_made(whole: Path) -> None:
    codes = weights.read(whole / "nano_tokenizer" / TOKENIZER)["quantize.weight"]
    masked, teacher, tuned = (final(whole, name) for name in ("nano_masked", "nano_teacher", "nano_contrastive"))
    assert codes.shape == (16, 4)
    assert masked["mim_head.weight"].shape[0] == 16
    assert {name.partition(".")[0] for name in masked} == {"beit3", "mlm_head", "mim_head"}
    assert {"vision_head.weight", "language_head.weight", "logit_scale"} <= set(tuned)
    # Three steps move a weight by at most three learning rates; other random weights would be far away.
    name = "beit3.encoder.layers.0.ffn.A.fc1.weight"
    for later, earlier in ((masked, teacher), (tuned, masked)):
        assert 0 < (later[name] - earlier[name]).abs().max() < 4e-3


def test_the_result_is_a_backbone_that_any_task_begins_with(whole: Path) -> None:
    model = backbones.build("multiway_nano", weights=whole / "nano_masked" / CHECKPOINTS / FINAL)
    assert torch.equal(model.text_embed.weight, final(whole, "nano_masked")["beit3.text_embed.weight"])
    row = origin.of_weights(whole / "nano_masked" / CHECKPOINTS / FINAL, "")
    assert (row["pretraining"], row.get("recipe")) == ("nano_masked", None)


def test_figures_of_each_kind_of_data_are_in_a_csv_and_a_picture(whole: Path) -> None:
    rows = figures(whole, "nano_masked")
    assert [int(row["step"]) for row in rows] == [1, 2, 3]
    assert {"text_loss", "text_accuracy", "image_loss", "image_accuracy", "pair_text_loss"} <= set(rows[0])
    assert all(float(row["text_loss"]) > 0 for row in rows)
    assert float(rows[-1]["samples_per_second"]) > 0
    assert rows[-1]["peak_share"] == peak.UNKNOWN  # no number of ours for a CPU's peak
    assert {"code_usage", "code_perplexity", "reconstruction_loss"} <= set(figures(whole, "nano_tokenizer")[0])
    assert {"contrastive_loss", "image_accuracy", "scale"} <= set(figures(whole, "nano_contrastive")[0])
    assert (whole / "nano_masked" / pretraining_log.CURVES).read_bytes().startswith(b"\x89PNG")


def test_done_again_it_trains_nothing(whole: Path, data: Path) -> None:
    before = (whole / "nano_teacher" / CHECKPOINTS / FINAL).stat().st_mtime_ns
    run("nano_teacher", data, whole)
    assert (whole / "nano_teacher" / CHECKPOINTS / FINAL).stat().st_mtime_ns == before


def copied(whole: Path, out: Path, stages: Sequence[str] = ("nano_teacher", "nano_tokenizer")) -> Path:
    for stage in stages:
        shutil.copytree(whole / stage, out / stage)
    return out


def test_the_codebook_stays_as_it_is_while_it_is_predicted(whole: Path, data: Path, tmp_path: Path) -> None:
    out = copied(whole, tmp_path)
    tokenizer = out / "nano_tokenizer" / TOKENIZER
    stage = plan("nano_masked", data=str(data), out=out, changes=SHORT)
    target = pretraining.stages.image_target(stage.recipe, stage.backbone, stage.target)
    before = {name: value.clone() for name, value in target.state_dict().items()}
    asked = []

    def image_target(*_: object) -> object:
        asked.append(target)
        return target

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretraining.stages, "image_target", image_target)
        pretraining.run(stage)
    assert asked == [target]
    assert all(torch.equal(value, before[name]) for name, value in target.state_dict().items())
    assert torch.equal(weights.read(tokenizer)["quantize.weight"], before["tokenizer.quantize.weight"])


def few(data: Path, folder: Path) -> Path:
    """Few samples, so that every step is an epoch, after which a checkpoint is kept."""
    rows = json.loads((data / "pairs" / "captions.json").read_text())["images"][:5]
    for row in rows:
        row["sentences"] = row["sentences"][:1]
        picture = Path(row["filepath"]) / row["filename"]
        (folder / picture).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(data / picture, folder / picture)
    (folder / "pairs").mkdir()
    (folder / "pairs" / "few.json").write_text(json.dumps({"images": rows}))
    (folder / "texts").mkdir()
    lines = (data / "texts" / "toy.txt").read_text().splitlines()[:12]
    (folder / "texts" / "few.txt").write_text("\n".join(lines))
    return folder


def test_a_killed_stage_goes_on_bit_for_bit(
    whole: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = few(data, tmp_path / "few")
    once, out = (copied(whole, tmp_path / name) for name in ("once", "killed"))
    add = pretraining_log.PretrainingLog._add

    def killed(self: pretraining_log.PretrainingLog, row: dict) -> None:
        add(self, row)
        if row["step"] == 2:
            raise KeyboardInterrupt

    run("nano_masked", own, once)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pretraining_log.PretrainingLog, "_add", killed)
        run("nano_masked", own, out)
    assert not (out / "nano_masked" / CHECKPOINTS / FINAL).exists()
    resumed_at = []
    monkeypatch.setattr(
        pretraining_log.PretrainingLog, "_add", lambda self, row: (resumed_at.append(row["step"]), add(self, row))
    )
    run("nano_masked", own, out)
    assert resumed_at == [2, 3]  # from the checkpoint after the first step
    uninterrupted, resumed = final(once, "nano_masked"), final(out, "nano_masked")
    assert all(torch.equal(value, resumed[name]) for name, value in uninterrupted.items())
    for before, after in zip(figures(once, "nano_masked"), figures(out, "nano_masked"), strict=True):
        assert {name: value for name, value in before.items() if name not in SPEED} == {
            name: value for name, value in after.items() if name not in SPEED
        }


@pytest.mark.spawn
@pytest.mark.parametrize(
    ("stage", "after", "own"),
    [
        ("nano_masked", ("nano_teacher", "nano_tokenizer"), ()),
        ("nano_tokenizer", ("nano_teacher",), (*CODES, "shard=true")),
        ("nano_contrastive", ("nano_masked",), ("shard=true",)),
    ],
)
def test_two_processes_train_what_one_does(
    stage: str, after: Sequence[str], own: Sequence[str], whole: Path, data: Path, tmp_path: Path
) -> None:
    out = copied(whole, tmp_path, after)
    changes = [part for change in (*SHORT, "micro_batch=2", *own) for part in ("--set", change)]
    execute(["pretrain", stage, "--data", data, "--out", out, *changes], count=2)
    one, two = final(whole, stage), final(out, stage)
    # The gradient of the keys' biases is 0 but for rounding, which Adam makes steps of.
    apart = {
        name: (value.float() - two[name].float()).abs().max().item()
        for name, value in one.items()
        if "k_proj" not in name
    }
    assert max(apart.values()) < 1e-4, max(apart, key=apart.get)
    rows = [
        {name: float(value) for name, value in row.items() if value and name not in (*SPEED, "epoch")}
        for folder in (whole, out)
        for row in figures(folder, stage)
    ]
    assert rows[:3] == [pytest.approx(row, abs=2e-3) for row in rows[3:]]


def test_a_changed_recipe_is_not_resumed(whole: Path, data: Path) -> None:
    with pytest.raises(InputError, match=r"recipe lr: 0\.001 then, 0\.0005 now.*another --out"):
        run("nano_masked", data, whole, "lr=5e-4")


def test_other_data_are_not_resumed(whole: Path, tmp_path: Path) -> None:
    other = toy_data.write(tmp_path / "toy", scale=0.001, seed=1)
    with pytest.raises(InputError, match=r"other options or data \(data: '\w{64}' then"):
        run("nano_masked", other, whole)


def test_a_loss_that_is_not_finite_ends_the_training(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(recipes.get("nano_teacher").RANGES, "lr", "(0, 1e30]")
    with pytest.raises(InputError, match=r"(The loss is nan at|not finite after) step \d.*lower peak"):
        run("nano_teacher", data, tmp_path, "lr=1e30", "clip_grad=none", "warmup_steps=0", "steps=6")


def test_what_a_stage_needs_is_said_with_the_command_that_makes_it(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="run `harness pretrain nano_teacher` with the same --out first"):
        plan("nano_tokenizer", data=str(data), out=tmp_path)
    with pytest.raises(UsageError, match="--image-tokenizer FILE"):
        plan("nano_masked", data=str(data), out=tmp_path, weights="none")


def test_clusters_of_a_teachers_features_are_a_target(whole: Path, data: Path, tmp_path: Path) -> None:
    out = copied(whole, tmp_path, ("nano_teacher",))
    made = pretraining.run(plan("nano_clusters", data=str(data), out=out, changes=("codes=8", "micro_batch=4")))
    assert made.result == out / "nano_clusters" / CLUSTERS
    run("nano_masked", data, out, "image_target=kmeans", "steps=1")
    assert final(out, "nano_masked")["mim_head.weight"].shape[0] == 8


def test_pixels_need_no_other_stage(data: Path, tmp_path: Path) -> None:
    run("nano_masked", data, tmp_path, "image_target=pixels", "steps=1", weights="none")
    assert final(tmp_path, "nano_masked")["mim_head.weight"].shape[0] == 3 * 16 * 16


def test_a_tokenizer_of_another_grid_is_refused(whole: Path, data: Path, tmp_path: Path) -> None:
    out = copied(whole, tmp_path)
    with pytest.raises(UsageError, match=r"is for 5 × 5 patches.*--set image_size=80"):
        run("nano_masked", data, out, "image_size=64")


def test_weights_that_predict_other_codes_are_refused_unless_asked_for(whole: Path, data: Path, tmp_path: Path) -> None:
    out = copied(whole, tmp_path)
    masked = weights.read(whole / "nano_masked" / CHECKPOINTS / FINAL)
    start = tmp_path / "start.safetensors"
    weights.save(masked | {"mim_head.weight": torch.zeros(7, 128), "mim_head.bias": torch.zeros(7)}, start)
    with pytest.raises(UsageError, match=r"has 16 codes, and .*start\.safetensors predicts 7"):
        run("nano_masked", data, out, "steps=1", weights=str(start))
    run("nano_masked", data, out, "steps=1", "new_image_head=true", weights=str(start))
    assert final(out, "nano_masked")["mim_head.weight"].shape[0] == 16


@pytest.mark.parametrize("ratio", ["image_mask_ratio=0.0", "image_mask_ratio=1.0", "pair_mask_ratio=1.0"])
def test_masks_of_nothing_or_everything_are_refused(whole: Path, data: Path, tmp_path: Path, ratio: str) -> None:
    with pytest.raises(UsageError, match=r"mask[_ ]ratio"):
        run("nano_masked", data, copied(whole, tmp_path), ratio)
