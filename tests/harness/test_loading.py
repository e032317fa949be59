from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import Dataset

from backbones import InputError
from harness.loading import TrainBatches, Unbroken, eval_loader, train_loader


def keys(size: int, count: int, *, start: int = 0, micro: int = 2, parts: int = 2, rank: int = 0, world: int = 1):
    batches = TrainBatches(size, micro=micro, accumulation=parts, seed=7, rank=rank, world_size=world)
    batches.start = start
    return list(itertools.islice(iter(batches), count))


def test_an_epoch_has_each_sample_at_most_once_and_epochs_differ() -> None:
    seen = [key for batch in keys(22, 2 * 5 * 2) for key in batch]  # 5 steps of 2 × 2 an epoch, 2 left over
    epochs = [[index for epoch, index in seen if epoch == wanted] for wanted in (0, 1)]
    assert len(epochs[0]) == len(epochs[1]) == 20
    assert len(set(epochs[0])) == 20
    assert epochs[0] != epochs[1]


def test_starting_later_gives_the_same_batches() -> None:
    whole = keys(22, 20)
    assert keys(22, 6, start=7) == whole[14:]


def test_processes_and_accumulation_share_the_same_global_batch() -> None:
    def step_members(parts: int, world: int, micro: int) -> list[set]:
        shares = [keys(64, 3 * parts, micro=micro, parts=parts, rank=rank, world=world) for rank in range(world)]
        return [
            {key for share in shares for batch in share[step * parts : (step + 1) * parts] for key in batch}
            for step in range(3)
        ]

    alone = step_members(parts=1, world=1, micro=12)
    assert all(len(members) == 12 for members in alone)
    assert alone == step_members(parts=3, world=2, micro=2) == step_members(parts=1, world=3, micro=4)


class Noisy(Dataset):
    """An item is its index and three generators' draws; one item is broken."""

    def __init__(self, broken: int | None = None) -> None:
        self.broken = broken

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> dict:
        if index == self.broken:
            raise InputError("image 5 is broken")
        return {"index": index, "noise": torch.tensor([random.random(), np.random.rand(), torch.rand(()).item()])}


def draw(workers: int, *, start: int) -> list[dict]:
    batches = TrainBatches(12, micro=2, accumulation=1, seed=3, rank=0, world_size=1)
    batches.start = start
    loader = train_loader(Noisy(), batches, workers=workers, seed=3)
    return list(itertools.islice(iter(loader), 14 - start))


def test_augmentation_depends_on_the_sample_and_epoch_alone() -> None:
    whole, resumed = draw(0, start=0), draw(2, start=5)
    for left, right in zip(whole[5:], resumed, strict=True):
        assert torch.equal(left["index"], right["index"])
        assert torch.equal(left["noise"], right["noise"])
    first = {int(i): n for batch in whole[:6] for i, n in zip(batch["index"], batch["noise"], strict=True)}
    second = {int(i): n for batch in whole[6:12] for i, n in zip(batch["index"], batch["noise"], strict=True)}
    assert not any(torch.equal(first[index], second[index]) for index in first)


def test_an_error_in_a_loader_process_arrives_as_it_was() -> None:
    for workers in (0, 2):
        batches = Unbroken(eval_loader(Noisy(broken=5), [[0, 1], [4, 5]], workers=workers))
        next(batches)
        try:
            next(batches)
        except InputError as error:
            assert str(error) == "image 5 is broken"
        else:
            raise AssertionError("no error")


def test_waiting_for_a_batch_is_counted_and_computing_is_not() -> None:
    def slow() -> Iterator[int]:
        for number in range(3):
            time.sleep(0.02)
            yield number

    batches = Unbroken(slow())
    for _ in batches:
        time.sleep(0.1)
    assert 0.06 <= batches.waited < 0.2
