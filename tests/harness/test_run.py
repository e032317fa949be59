"""Whole runs: fine-tune, predict, score, row; interrupted, shared among processes, twice at once."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import backbones
import harness
from backbones import InputError, weights
from harness import logs
from harness.experiment import plan
from leaderboards import replicates
from leaderboards.rows import ResultRow, read
from tests.conftest import FAST
from tests.support.processes import Started
from tests.support.runs import NOISY, command, execute, execute_by_torchrun, final_weights, folder, kill_when

# What differs between two runs of one experiment, and nothing else may.
CIRCUMSTANCES = {
    "train_seconds", "train_peak_memory", "finetuned_sha256", "predict_seconds", "samples_per_second", "peak_memory",
    "started", "run_id",
}  # fmt: skip


def comparable(row: ResultRow) -> dict:
    return {name: value for name, value in vars(row).items() if name not in CIRCUMSTANCES}


@pytest.fixture(scope="module")
def plain(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run in one process."""
    out = tmp_path_factory.mktemp("plain")
    execute(command(colours, out))
    return out


@pytest.mark.training
def test_a_run_leaves_weights_predictions_a_result_and_rows(plain: Path, colours: Path) -> None:
    rows = read(plain / "results.csv")
    assert [(row.metric, row.n) for row in rows] == [("top1", 13), ("top5", 13)]
    row = rows[0]
    assert row.low <= row.value <= row.high
    assert row.parameters == sum(
        parameter.numel()
        for parameter in plan("imagenet", backbone="multiway_nano", data=colours, changes=FAST)
        .build_model()
        .parameters()
    )
    assert row.recipe_altered.split() == ["image_size", "epochs", "warmup_epochs", "steps", "batch_size"]
    assert (row.resolution, row.processes, row.seed) == (16, 1, 0)
    assert "torch=" in row.libraries
    lines = (folder(plain) / "predictions" / "val.jsonl").read_text().splitlines()
    assert len({json.loads(line)["id"] for line in lines}) == 13
    assert (folder(plain) / "checkpoints" / "final.safetensors").is_file()
    assert not (folder(plain) / "checkpoints" / "last.pth").exists()
    assert json.loads((folder(plain) / "result.json").read_text())[0]["value"] == row.value


def test_a_run_keeps_the_replicates_behind_its_intervals(plain: Path) -> None:
    rows, stored = read(plain / "results.csv"), replicates.read(folder(plain) / "replicates.npz")
    assert [(one.metric, one.value, one.run_id) for one in stored] == [(r.metric, r.value, r.run_id) for r in rows]
    for row, one in zip(rows, stored, strict=True):
        assert one.draws == 1000
        if row.bootstrap_draws:  # not where the interval is Wilson's
            assert np.percentile(one.replicates, [2.5, 97.5]) == pytest.approx([row.low, row.high])


@pytest.mark.training
def test_the_same_command_again_computes_nothing_and_adds_nothing(plain: Path, colours: Path) -> None:
    before = (plain / "results.csv").read_bytes()
    stamp = (folder(plain) / "checkpoints" / "final.safetensors").stat().st_mtime_ns
    execute(command(colours, plain))
    assert (plain / "results.csv").read_bytes() == before
    assert (folder(plain) / "checkpoints" / "final.safetensors").stat().st_mtime_ns == stamp


def test_scoring_again_from_the_file_gives_the_same_rows(plain: Path, colours: Path) -> None:
    rows = harness.score("imagenet", folder(plain) / "predictions" / "val.jsonl", data=colours)
    assert [vars(row) for row in rows] == [vars(row) for row in read(plain / "results.csv")]


@pytest.mark.training
def test_predicting_with_the_fine_tuned_weights_gives_the_same_predictions(
    plain: Path, colours: Path, tmp_path: Path
) -> None:
    tuned = ("--weights", str(folder(plain) / "checkpoints" / "final.safetensors"))
    done = execute(command(colours, tmp_path, verb="predict", extra=(*tuned, "--json")))
    path = Path(json.loads(done.stdout)["predictions"])
    assert path.read_bytes() == (folder(plain) / "predictions" / "val.jsonl").read_bytes()


@pytest.mark.training
def test_fp16_resumed_in_training_ends_as_an_uninterrupted_one(colours: Path, tmp_path: Path) -> None:
    """The loss scale is state: with a wrong one the resumed steps would round differently, or be skipped."""
    changes = (*NOISY, "precision=fp16", "epochs=8")
    tensors = []
    for out in (tmp_path / "whole", tmp_path / "broken"):
        if out.name == "broken":
            kill_when(command(colours, out, *changes), (folder(out) / "checkpoints" / "last.pth").exists)
            state = torch.load(folder(out) / "checkpoints" / "last.pth", weights_only=True)["optimizer"]
            assert state["loss_scale"]["scale"] > 1
        execute(command(colours, out, *changes))
        tensors.append(final_weights(out))
        assert {row.precision for row in read(out / "results.csv")} == {"fp16"}
    for name, tensor in tensors[0].items():
        assert tensor.equal(tensors[1][name]), name


@pytest.mark.training
def test_a_run_killed_in_training_and_in_prediction_ends_as_an_uninterrupted_one(colours: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    execute(command(colours, whole, *NOISY))
    # One image takes ten seconds to decode: prediction gets so far and no further, until it is killed.
    data = Path(shutil.copytree(colours, tmp_path / "data"))
    last = sorted((data / "val" / "class2").iterdir())[-1]
    content, times = last.read_bytes(), last.stat()
    Image.new("1", (11_000, 11_000)).save(last, "PNG")
    slow = command(data, broken, *NOISY, "workers=1")
    kill_when(slow, (folder(broken) / "checkpoints" / "last.pth").exists)
    assert not (folder(broken) / "checkpoints" / "final.safetensors").exists()
    parts = folder(broken) / "predictions" / "val"
    kill_when(slow, lambda: any(part.read_bytes().count(b"\n") >= 8 for part in parts.glob("*.jsonl")))
    assert not parts.with_suffix(".jsonl").exists()
    last.write_bytes(content)
    os.utime(last, ns=(times.st_atime_ns, times.st_mtime_ns))
    _take_over_data(
        folder(whole) / "run.json", folder(broken) / "run.json"
    )  # the slow image's size and time stand in it
    execute(command(data, broken, *NOISY))
    assert len(list(parts.parent.glob("val*"))) == 2  # the parts are gone: records and their origin are left
    tensors = [final_weights(out) for out in (whole, broken)]
    for name, tensor in tensors[0].items():
        assert tensor.equal(tensors[1][name]), name
    rows = [read(out / "results.csv") for out in (whole, broken)]
    assert [comparable(row) for row in rows[0]] == [comparable(row) for row in rows[1]]


def _take_over_data(source: Path, target: Path) -> None:
    facts = json.loads(target.read_text()) | {"data": json.loads(source.read_text())["data"]}
    target.write_text(json.dumps(facts))


@pytest.mark.spawn
@pytest.mark.parametrize("processes", [2, 3])
def test_several_processes_predict_what_one_predicts(
    plain: Path, colours: Path, tmp_path: Path, processes: int
) -> None:
    """13 samples: neither 2 nor 3 divides them, nor the 4 batches evenly. The two are torchrun's own."""
    tuned = ("--weights", str(folder(plain) / "checkpoints" / "final.safetensors"))
    start = execute_by_torchrun if processes == 2 else execute
    done = start(command(colours, tmp_path, verb="predict", extra=(*tuned, "--json")), count=processes)
    path = Path(json.loads(done.stdout)["predictions"])
    assert path.read_bytes() == (folder(plain) / "predictions" / "val.jsonl").read_bytes()


@pytest.mark.spawn
def test_training_on_two_processes_equals_training_on_one(colours: Path, tmp_path: Path) -> None:
    """The same global batches, and gradients averaged over processes: the same weights but for rounding."""
    changes = ("precision=fp32", "clip_grad=1.0", "smallest_crop=1.0")
    for name, processes, micro in (("one", 0, 8), ("two", 2, 2)):
        execute(command(colours, tmp_path / name, *changes, f"micro_batch={micro}"), count=processes)
    one, two = (final_weights(tmp_path / name) for name in ("one", "two"))
    moved = 0.0
    start = plan("imagenet", backbone="multiway_nano", data=colours, changes=FAST)
    for name, tensor in start.build_model().state_dict().items():
        moved = max(moved, (one[name] - tensor).abs().max().item())
        assert (one[name] - two[name]).abs().max() < 1e-4, name
    assert moved > 1e-3
    rows = read(tmp_path / "two" / "results.csv")
    assert (rows[0].processes, len(rows)) == (2, 2)


@pytest.mark.spawn
def test_two_runs_write_one_results_file(colours: Path, tmp_path: Path) -> None:
    started = [Started("harness", *command(colours, tmp_path, extra=("--seed", seed))) for seed in ("1", "2")]
    assert [process.wait().returncode for process in started] == [0, 0]
    rows = read(tmp_path / "results.csv")
    assert sorted((row.seed, row.metric) for row in rows) == [(1, "top1"), (1, "top5"), (2, "top1"), (2, "top5")]


@pytest.mark.training
def test_a_run_starts_from_official_pretrained_weights(
    colours: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    """Backbone taken over under the official names, positions resized, pretraining heads left out, head fresh."""
    torch.manual_seed(9)
    pretrained = backbones.build("multiway_nano")
    state = {f"beit3.{name}": tensor for name, tensor in pretrained.state_dict().items()}
    state |= {"mlm_head.weight": torch.zeros(4, 128), "mim_head.bias": torch.zeros(4)}
    torch.save({"model": state}, tmp_path / "nano.pth")
    changes = [*FAST, "epochs=1", "warmup_epochs=0", "lr=1e-9", "min_lr=0", "precision=fp32"]
    options = {"backbone": "multiway_nano", "data": colours, "out": tmp_path, "weights": tmp_path / "nano.pth"}
    row = harness.run("imagenet", changes=changes, **options)[0]
    assert (row.weights, row.weights_sha256) == ("nano.pth", weights.sha256(tmp_path / "nano.pth"))
    told = capfd.readouterr().err
    assert "freshly initialised (4): fc_norm, head\n" in told
    assert "not used (6): beit3.encoder.layer_norm, mlm_head, mim_head\n" in told
    assert "resized from 80 to 16 px (1): beit3.encoder.embed_positions.A\n" in told
    tuned = final_weights(tmp_path)
    name = "beit3.encoder.layers.3.ffn.A.fc1.weight"
    torch.testing.assert_close(tuned[name], state[name], atol=1e-6, rtol=0)


@pytest.mark.training
def test_the_python_interface_runs_several_changes(colours: Path, tmp_path: Path) -> None:
    rows = harness.run(
        "imagenet",
        backbone="timm/resnet18",
        data=colours,
        out=tmp_path,
        limit=8,
        seed=3,
        recipe="nano",
        name="mine",
        changes=["image_size=32", "batch_size=8", "micro_batch=4", "layer_decay=0.9", "epochs=1", "warmup_epochs=0"],
    )
    assert [(row.metric, row.n, row.backbone, row.seed) for row in rows] == [
        ("top1", 8, "timm/resnet18", 3),
        ("top5", 8, "timm/resnet18", 3),
    ]
    with (tmp_path / "results.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2
    assert (tmp_path / "imagenet" / "mine" / "run.json").is_file()
    assert (tmp_path / "imagenet" / "mine" / "checkpoints" / "log").is_dir()


@pytest.mark.training
def test_losses_go_to_tensorboard_when_asked_for(colours: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    harness.run("imagenet", backbone="multiway_nano", data=colours, out=tmp_path, changes=FAST, log=["tensorboard"])
    (events,) = (folder(tmp_path) / "checkpoints" / "log").rglob("events.out.tfevents.*")
    recorded = EventAccumulator(str(events)).Reload()
    assert {"loss", "lr"} <= set(recorded.Tags()["scalars"])


def test_a_logger_that_is_not_installed_is_told(colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"--log wandb needs the package wandb\. Install it: .*'wandb>=0\.18'"):
        harness.run("imagenet", backbone="multiway_nano", data=colours, out=tmp_path, changes=FAST, log=["wandb"])
