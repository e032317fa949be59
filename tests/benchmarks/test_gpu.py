"""GPU measurements run without a GPU at a tiny size, and their arithmetic is right."""

from __future__ import annotations

import ast
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import backbones
from backbones.multiway import Multiway
from backbones.windowed import WindowedMultiway
from tests.benchmarks import gpu, gpu_dense, gpu_images, gpu_tasks, peers
from tests.benchmarks.answers import answered
from tests.benchmarks.gpu_measuring import Budget, Comparison, Machine, Measurement, Work
from tests.conftest import REPOSITORY

BASE = backbones.config("beit3_base_patch16_224")
NANO = backbones.resolve("multiway_nano", final_norm=False)


def test_flops_of_base_by_hand() -> None:
    # 197 tokens × 12 layers × (2 · (4 · 768² + 2 · 768 · 3072) + 4 · 197 · 768), and 196 patches × 768 × 768 × 2.
    assert gpu_images.forward_flops(BASE) == 197 * 12 * (14_155_776 + 605_184) + 231_211_008
    assert gpu_images.forward_flops(BASE) / 2 == pytest.approx(17.5e9, rel=0.01)  # multiply-adds, as papers give them
    assert gpu_images.training_flops(BASE) == pytest.approx(105.4e9, rel=0.001)


@pytest.mark.parametrize("name", ["beit3_base_patch16_224", "beit3_large_patch16_384", "multiway_nano"])
def test_flops_are_those_that_pytorch_counts(name: str) -> None:
    config = backbones.config(name)
    with torch.device("meta"):
        model, image = Multiway(config), torch.empty(1, 3, config.image_size, config.image_size)
    # The attention as plain products, so that the counter sees them on every device.
    with FlopCounterMode(display=False) as counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        model(image)
    assert counter.get_total_flops() == gpu_images.forward_flops(config)


def test_flops_in_windows_are_those_that_pytorch_counts() -> None:
    # The map of 8 x 8 is a multiple of the window: what is padded is counted by PyTorch, and no work of the model.
    config = backbones.resolve("multiway_nano", image_size=128, window=4, global_layers=(2, 5), final_norm=False)
    with torch.device("meta"):
        model, image = WindowedMultiway(config), torch.empty(1, 3, 128, 128)
    with FlopCounterMode(display=False) as counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        model.maps(image, [5])
    assert counter.get_total_flops() == gpu_images.forward_flops(config)


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide a GPU: its figures are not the tests' business."""
    monkeypatch.setattr(gpu, "device", lambda: torch.device("cpu"))


@pytest.mark.usefixtures("on_cpu")
def test_gpu_falls_back_to_tiny_sizes(forked: None, capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    assert gpu.main(["--rounds", "1", "--warmup", "0", "--json", str(file)]) == 0
    assert "NO GPU" in capsys.readouterr().out
    report = json.loads(file.read_text())
    assert len(report["rows"]) == len(gpu.MEASUREMENTS)
    for row in report["rows"]:
        if row["variant"] == "compile" or (row["model"] == "torchscale" and not peers.has_torchscale()):
            assert row["remark"].startswith("skipped: ")
        else:
            assert row["remark"] == ""
            assert 0 < row["images/s"] < math.inf
            twice = row["work"] == "nlvr2 step" or row["variant"] == "2 process(es)"  # two images, two batches a step
            assert row["images/s"] * row["s/step"] == pytest.approx(row["batch"] * (1 + twice))
            assert row["MFU %"] is None or row["MFU %"] > 0
    ratios = {(row["work"], row["model"]): row["× peer eager"] for row in report["rows"] if row["images/s"]}
    for work in ("deformable forward", "deformable backward", "windows forward", "windows training"):
        assert ratios[work, "ours"] > 0
    assert ratios["detection step", "ours"] is ratios["segmentation step", "ours"] is None
    if peers.has_torchscale():
        assert ratios["forward", "ours"] > 0
    # What ours and each peer compute is the same, or there is nothing to compare.
    compared = 2 + peers.has_torchscale() + len(gpu_tasks.COMPARISONS)
    assert sum("largest difference" in note for note in report["notes"]) == compared
    assert report["missed"] == []


def fake(variant: str, prepare: Callable[[int], object], *, batch: int = 8) -> Measurement:
    def ready(machine: Machine, size: str, count: int) -> Work:
        return Work(step=lambda: prepare(count), flops=1e9, images=count)

    return Measurement(work="w", model="ours", variant=variant, prepare=ready, batches={"nano": batch})


@pytest.mark.usefixtures("on_cpu")
def test_gpu_gives_a_failure_its_line(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    def fits_up_to(largest: int) -> Callable[[int], None]:
        def step(batch: int) -> None:
            if batch > largest:
                raise torch.OutOfMemoryError

        return step

    def broken(batch: int) -> None:
        raise RuntimeError("\nno such kernel\nand a long story")

    monkeypatch.setattr(gpu, "COMPARISONS", [])
    measurements = [fake("halves", fits_up_to(2)), fake("too large", fits_up_to(0)), fake("broken", broken)]
    absent = Measurement(
        work="w", model="ours", variant="absent", prepare=broken, batches={"nano": 1}, lacks=lambda: "package x absent"
    )
    monkeypatch.setattr(gpu, "MEASUREMENTS", [*measurements, absent, fake("goes on", fits_up_to(8))])
    status, report = answered(gpu.main, capsys, "--rounds", "1", "--warmup", "0")
    rows = {row["variant"]: row for row in report["rows"]}
    assert (rows["halves"]["batch"], rows["halves"]["remark"]) == (2, "")
    assert rows["too large"]["remark"] == "out of memory, even at batch 1"
    assert rows["broken"]["remark"] == "RuntimeError: no such kernel"
    assert rows["absent"]["remark"] == "skipped: package x absent"
    assert (rows["goes on"]["batch"], rows["goes on"]["remark"]) == (8, "")
    assert status == 0


def test_gpu_stops_what_runs_when_the_time_is_over_and_skips_the_rest() -> None:
    machine = Machine(device=torch.device("cpu"), dtype=torch.float32, rounds=1, warmup=0, compiles=False)
    budget = Budget(0.2)
    assert budget.run(lambda: time.sleep(60), machine) == "stopped: the budget of 0.2 s was used up"
    assert budget.run(lambda: 1.0, machine) == "skipped: the budget of 0.2 s is used up"
    assert Budget(60).run(lambda: 1.0, machine) == 1.0


@pytest.mark.usefixtures("on_cpu")
def test_gpu_says_of_every_line_that_it_was_skipped(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "COMPARISONS", [])
    _, report = answered(gpu.main, capsys, "--budget", "0", "--only", "training ours eager")
    assert [row["work"] for row in report["rows"]] == ["training", "windows training"]
    assert all(row["remark"] == "skipped: the budget of 0 s is used up" for row in report["rows"])


@pytest.mark.usefixtures("on_cpu")
def test_gpu_says_when_the_outputs_differ(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    def comparison(peer: str, apart: float, lacks: str = "") -> Comparison:
        return Comparison(
            peer=peer, sizes=("nano",), difference=lambda machine, size: apart, tolerance=0.05, lacks=lambda: lacks
        )

    peers_of_ours = [comparison("good", 0.01), comparison("bad", 0.1), comparison("absent", 0.1, "package x absent")]
    monkeypatch.setattr(gpu, "COMPARISONS", peers_of_ours)
    monkeypatch.setattr(gpu, "MEASUREMENTS", [])
    status, report = answered(gpu.main, capsys, "--rounds", "1", "--warmup", "0")
    assert status == 1
    assert len(report["missed"]) == 1
    assert "bad" in report["missed"][0]
    assert "unequal" in report["missed"][0]


def test_both_implementations_train_the_same_parameters() -> None:
    pytest.importorskip("torchscale", reason="compares with torchscale's parameters")
    trained = []
    for make in (peers.ours, peers.torchscale):
        model = make(NANO).model
        gpu_images._freeze_unused_by_images(model, NANO)
        trained.append({name for name, parameter in model.named_parameters() if parameter.requires_grad})
    assert trained[0] == trained[1]
    assert "encoder.layers.0.ffn.A.fc1.weight" in trained[0]
    assert "encoder.layers.0.ffn.B.fc1.weight" not in trained[0]


def imported(module: str, seen: set[str]) -> set[str]:
    """Modules that importing a module of this repository imports, as far as the repository's own files tell."""
    path = REPOSITORY.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if module in seen or not file.is_file():
        return seen | {module}
    seen = seen | {module}
    for node in ast.parse(file.read_text()).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module, *[f"{node.module}.{alias.name}" for alias in node.names]]
        for name in names:
            parts = name.split(".")
            for end in range(1, len(parts) + 1):  # a package before what is in it
                seen = imported(".".join(parts[:end]), seen)
    return seen


def test_what_a_model_lacks_is_named() -> None:
    assert gpu_dense.lacks("mmdet") == ""
    assert gpu_dense.lacks("no_such_package").startswith("no_such_package absent")


@pytest.mark.parametrize("task", gpu_tasks.MODELS)
def test_made_up_batches_teach_a_task(task: str) -> None:
    """A comparison with the CPU says nothing where the losses of the steps are all the same."""
    losses = gpu_tasks.losses(task, "nano", torch.device("cpu"))
    assert losses[0] > losses[1] > losses[2]


def test_a_comparison_with_the_cpu_sees_another_computation(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(device=torch.device("meta"), dtype=torch.float32, rounds=1, warmup=0, compiles=False)
    logits = {"meta": [torch.tensor([1.0, 2.2])], "cpu": [torch.tensor([1.0, 2.0])]}
    monkeypatch.setattr(gpu_tasks, "predicted", lambda task, size, where: logits[where.type])
    assert gpu_tasks.predictions_apart(machine, "nano", task="vqav2") == pytest.approx(0.1)
    captions = {"meta": [torch.tensor([[0, 5, 2], [0, 6, 2]])], "cpu": [torch.tensor([[0, 5, 2], [0, 7, 2]])]}
    monkeypatch.setattr(gpu_tasks, "predicted", lambda task, size, where: captions[where.type])
    assert gpu_tasks.predictions_apart(machine, "nano", task="coco_captioning") == 0.5
    monkeypatch.setattr(gpu_tasks, "losses", lambda task, size, where: [2.0, 1.0, 1.1 if where.type == "meta" else 1.0])
    assert gpu_tasks.losses_apart(machine, "nano", task="vqav2") == pytest.approx(0.1)


def test_made_up_objects_fill_their_boxes() -> None:
    _, sample = gpu_dense.scene(256, seed=0)
    objects = sample.gt_instances
    for mask, box in zip(objects.masks.masks, objects.bboxes.numpy(), strict=True):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        found = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        np.testing.assert_allclose(found, box, atol=2)


def test_gpu_needs_no_training_framework() -> None:
    """A machine with a GPU may have PyTorch and rich, but no OpenMMLab: what can be measured without it is."""
    assert {"mmengine", "mmengine.model", "timm"} <= imported("tests.benchmarks.engine", set())
    found = {name.split(".")[0] for name in imported("tests.benchmarks.gpu", set())}
    assert {"torch", "rich", "harness", "backbones"} <= found
    assert not found & {"mmengine", "mmcv", "mmdet", "mmseg", "timm", "cv2", "pandas"}
