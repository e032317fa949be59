"""Splitting a batch into micro-batches and over processes: where it changes no gradient, and where it does."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from timm.data import Mixup
from torch import Tensor

import tasks
from backbones import UsageError
from backbones.noise import Share, sharing
from harness.checkpoint import Progress
from tasks.classification.model import ImageClassifier
from tasks.classification.recipes import ImageNetRecipe
from tasks.recipe import changed
from tests.backbones.test_multiway import small
from tests.conftest import draw_folders
from tests.support import processes
from tests.support.questions import colour_questions
from tests.tasks import split_training
from tests.tasks.captioned import write_coco
from tests.tasks.reasoning.files import statements
from tests.tasks.split_training import CASES, train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a set for each task."""
    root = tmp_path_factory.mktemp("data")
    draw_folders(root / "imagenet", train=24, val=2)
    statements(root / "nlvr2", "train", sets=6)
    colour_questions(root / "vqa")
    for task in ("coco_captioning", "coco_retrieval"):
        write_coco(root / task)
    return root


@pytest.fixture(scope="module")
def whole(data: Path, spm: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple]:
    """The weights before and after a training with the batch in one piece, by case."""
    work = tmp_path_factory.mktemp("whole") / "work"
    return {case: train(case, data, spm, work, "micro_batch=8") for case in CASES}


def assert_same(state: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    apart = {name: (tensor - expected[name]).abs().max().item() for name, tensor in state.items()}
    assert max(apart.values()) <= 1e-5, max(apart, key=apart.get)


@pytest.mark.training
@pytest.mark.parametrize("parts", [2, 4])
@pytest.mark.parametrize("case", CASES)
def test_micro_batches_change_no_weight(
    case: str, parts: int, whole: dict, data: Path, spm: Path, tmp_path: Path
) -> None:
    before, after = whole[case]
    state = train(case, data, spm, tmp_path / "work", f"micro_batch={8 // parts}")[1]
    assert_same(state, after)
    # The tolerance means something: the weights have moved by hundreds of times as much.
    assert max((tensor - before[name]).abs().max() for name, tensor in after.items()) > 5e-3


@pytest.mark.spawn
def test_processes_change_no_weight(whole: dict, data: Path, spm: Path, tmp_path: Path) -> None:
    """Two processes with two micro-batches each."""
    done = processes.run(split_training.__name__, data, spm, tmp_path, processes=2)
    assert done.returncode == 0, done.stderr
    for number, case in enumerate(CASES):
        assert_same(load_file(tmp_path / f"{number}.safetensors"), whole[case][1])


@pytest.mark.parametrize("task", tasks.names())
def test_every_task_is_tested_or_says_that_a_split_alters_it(task: str) -> None:
    """NoCaps and Flickr30K train the models of COCO; UPerNet is tested in test_dense_runs.py."""
    tested = {case.partition(",")[0] for case in CASES}
    tested |= {"nocaps", "coco_zero_shot", "flickr30k_retrieval", "flickr30k_zero_shot", "ade20k"}
    for recipe in tasks.get(task).recipes.values():
        assert recipe.split_alters or task in tested, recipe.name
        other = dataclasses.replace(recipe, micro_batch=2 * recipe.micro_batch)
        assert other.differs_from(recipe) == (["micro_batch"] if recipe.split_alters else [])


def test_a_segmenter_without_batch_statistics_and_dropout_is_placed_freely() -> None:
    recipe = tasks.get("ade20k").recipes["base_upernet"]
    assert recipe.split_alters
    assert not changed(recipe, ["norm=GN", "head_dropout=0.0"]).split_alters
    assert changed(recipe, ["norm=GN"]).split_alters


def test_a_training_whose_split_matters_is_not_resumed_on_other_processes(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageNetRecipe, "split_alters", True)
    progress = dataclasses.asdict(Progress(step=1, seconds=1.0, processes=2))
    torch.save({"progress": progress, "model": {}, "optimizer": {}, "ema": None}, tmp_path / "last.pth")
    with pytest.raises(UsageError, match=r"began on 2 process\(es\).*cannot be resumed on 1"):
        train("imagenet", data, tmp_path, tmp_path, "micro_batch=8")


def test_samples_are_mixed_in_pairs_and_each_group_to_its_own_degree() -> None:
    """A batch of 8 in groups of 4: partners are neighbours, the degree follows from the group alone."""
    share = Share(seed=(0, 3), first=0, count=8, batch=8)
    mixup = Mixup(mixup_alpha=0.8, cutmix_alpha=0.0, label_smoothing=0.0, num_classes=8)
    model = ImageClassifier(small(), classes=8, mixup=mixup, mixup_group=4)
    image = torch.arange(8.0).reshape(8, 1, 1, 1).expand(8, 3, 2, 2)
    with sharing(share):
        mixed, target = model._mixed(image, torch.arange(8))
    degree = target.diag()
    assert degree[:4].tolist() == [degree[0]] * 4
    assert degree[4:].tolist() == [degree[4]] * 4
    assert degree[0] != degree[4]
    partner = torch.tensor([1, 0, 3, 2, 5, 4, 7, 6])
    torch.testing.assert_close(target[range(8), partner], 1 - degree)
    torch.testing.assert_close(mixed[:, 0, 0, 0], degree * torch.arange(8.0) + (1 - degree) * partner)
    with sharing(dataclasses.replace(share, first=2, count=2)):
        part, _ = model._mixed(image[2:4], torch.arange(2, 4))
    assert part.equal(mixed[2:4])


def test_mixing_needs_pairs(data: Path, spm: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="micro_batch must be even, not 1"):
        train("imagenet", data, spm, tmp_path, "micro_batch=1")
    with pytest.raises(UsageError, match="mixup_group is an even number"):
        changed(tasks.get("imagenet").recipes["base"], ["mixup_group=3"])
