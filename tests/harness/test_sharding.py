"""Sharded trainings: the same numbers as in one process, from whatever checkpoint they go on."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from backbones import InputError, weights
from harness import checkpoint, workdir
from harness.cli import main
from harness.training import fine_tune
from harness.workdir import CHECKPOINT, CHECKPOINTS, FINAL
from tasks.pretraining import toy_data
from tests.harness import sharded_training
from tests.harness.sharded_training import CASES, HALF, RESUMED, STEPS, built, train
from tests.support import instances, processes
from tests.support.questions import colour_questions
from tests.support.runs import command, folder
from tests.tasks.captioned import write_coco

FOUR = ("masked", "vqav2", "coco_detection")  # cases that run in four processes too


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a set for each case."""
    root = tmp_path_factory.mktemp("data")
    colour_questions(root / "vqa")
    write_coco(root / "coco_retrieval")
    toy_data.write(root / "pretraining", scale=0.001)
    kinds = list(instances.CATEGORIES)
    boxes = [instances.rectangle(n, n, kinds[n % 3], (n, 6, 14, 12)) for n in range(1, 13)]
    instances.write(root / "coco", "train", [(n, 40, 30 + n) for n in range(1, 13)], boxes)
    instances.write(root / "coco", "val", [(100, 40, 30)], [])
    return root


@pytest.fixture(scope="module")
def one(data: Path, spm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each case in a single process."""
    out = tmp_path_factory.mktemp("one")
    for case in CASES:
        train(case, data, spm, out)
    return out


def several(count: int, cases: Iterable[str], before: Path, data: Path, spm: Path, out: Path) -> Path:
    """Cases in `count` processes, and one that goes on from the checkpoint that others have left in `before`."""
    options = (data, spm, out, ",".join(cases), before / RESUMED)
    done = processes.run(sharded_training.__name__, *options, processes=count)
    assert done.returncode == 0, done.stderr
    assert f"Going on from step {HALF}" in done.stderr
    return out


@pytest.fixture(scope="module")
def two(one: Path, data: Path, spm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each case in two processes, and one that goes on from an unsharded checkpoint."""
    return several(2, CASES, one, data, spm, tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def four(two: Path, data: Path, spm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cases in four processes, and one that goes on from the checkpoint of two."""
    return several(4, FOUR, two, data, spm, tmp_path_factory.mktemp("four"))


def assert_same(out: Path, one: Path, case: str, *, steps: int = STEPS) -> None:
    """Compare the last `steps` losses, and the weights at the end."""
    losses, expected = (json.loads((folder / f"{case}.json").read_text()) for folder in (out, one))
    assert losses == pytest.approx(expected[-steps:], abs=1e-4)
    state, whole = (load_file(folder / f"{case}.safetensors") for folder in (out, one))
    assert {name: tensor.shape for name, tensor in state.items()} == {name: t.shape for name, t in whole.items()}
    apart = {name: (tensor - whole[name]).abs().max().item() for name, tensor in state.items()}
    assert max(apart.values()) <= 1e-4, max(apart, key=apart.get)


@pytest.mark.spawn
@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_as_one(case: str, one: Path, two: Path, data: Path, spm: Path) -> None:
    assert_same(two, one, case)
    before = built(case, data, spm)[0].state_dict()
    after = load_file(one / f"{case}.safetensors")
    assert max((tensor - before[name]).abs().max() for name, tensor in after.items()) > 5e-3


@pytest.mark.slow
@pytest.mark.spawn
@pytest.mark.parametrize("case", FOUR)
def test_four_processes_train_as_one(case: str, one: Path, four: Path) -> None:
    assert_same(four, one, case)


@pytest.mark.spawn
def test_a_training_goes_on_sharded_from_an_unsharded_checkpoint(one: Path, two: Path) -> None:
    assert (one / RESUMED / CHECKPOINT).is_file()
    assert_same(two / "resumed", one, RESUMED, steps=STEPS - HALF)


@pytest.mark.slow
@pytest.mark.spawn
def test_a_training_goes_on_with_another_number_of_processes(one: Path, two: Path, four: Path) -> None:
    assert [path.name for path in (two / RESUMED).iterdir()] == [f"last-{HALF}"]
    assert len(list((two / RESUMED / f"last-{HALF}").glob("*.safetensors"))) == 2
    assert_same(four / "resumed", one, RESUMED, steps=STEPS - HALF)


@pytest.mark.spawn
@pytest.mark.parametrize("case", ["vqav2", "coco_retrieval"])
def test_a_training_goes_on_unsharded_from_a_sharded_checkpoint(
    case: str, one: Path, two: Path, data: Path, spm: Path, tmp_path: Path
) -> None:
    """Averaged weights in one case, and a parameter without dimensions in the other."""
    train(case, data, spm, tmp_path, go_on=two / case)
    assert_same(tmp_path, one, case, steps=STEPS - HALF)


@pytest.mark.spawn
@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "too many", "of other facts"])
def test_a_damaged_checkpoint_is_refused(damage: str, two: Path, data: Path, spm: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work" / f"last-{HALF}"
    shutil.copytree(two / RESUMED / folder.name, folder)
    file = sorted(folder.glob("*.safetensors"))[1]
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:-40])
    elif damage == "flipped":
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    elif damage == "missing":
        file.unlink()
    elif damage == "too many":
        shutil.copy(file, folder / "shard-00003-model-00001-of-00001.safetensors")
    else:
        (folder / "progress.json").write_text("{}")
    model, items, recipe = built(RESUMED, data, spm)
    with pytest.raises(InputError, match=f"last-{HALF} \\(checkpoint\\) cannot be read: .*Remove it"):
        fine_tune(model, items, recipe, folder=tmp_path / "work", seed=7, log=())


def test_a_folder_that_was_not_finished_is_no_checkpoint(tmp_path: Path) -> None:
    """Of two forms that a kill has left side by side, the later one counts."""
    for step in (10, 20):
        (tmp_path / f"last-{step}").mkdir()
    assert not checkpoint.newest(tmp_path).exists()
    (tmp_path / "last-10" / "progress.json").touch()
    assert checkpoint.newest(tmp_path) == tmp_path / "last-10"
    (tmp_path / CHECKPOINT).touch()
    os.utime(tmp_path / "last-10" / "progress.json", (0, 0))
    assert checkpoint.newest(tmp_path) == tmp_path / CHECKPOINT
    workdir.remove_checkpoints(tmp_path, but=tmp_path / "last-10")
    assert [path.name for path in tmp_path.iterdir()] == ["last-10"]


@pytest.mark.spawn
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_sharded_run_validates_and_predicts_with_the_whole_model(
    precision: str, colours: Path, tmp_path: Path
) -> None:
    """13 images in batches of 4: one process has more of them than the other."""
    changes = (f"precision={precision}", "validate=1", "ema_decay=0.5")
    assert main(command(colours, tmp_path / "one", *changes)) == 0
    call = command(colours, tmp_path / "two", *changes, "micro_batch=2", "shard=true")
    done = processes.run("harness", *call, processes=2)
    assert done.returncode == 0, done.stderr
    one, two = (weights.read(folder(tmp_path / name) / CHECKPOINTS / FINAL) for name in ("one", "two"))
    apart = max((tensor - two[name]).abs().max().item() for name, tensor in one.items())
    assert apart < {"fp32": 1e-5, "fp16": 5e-3}[precision]
    scores = [(folder(tmp_path / name) / "validation.csv").read_text() for name in ("one", "two")]
    assert scores[0].count("\n") == 5
    assert scores[1].count("\n") == 5
    if precision == "fp32":
        assert scores[0] == scores[1]
