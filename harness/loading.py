"""Data loading that does not depend on where a run was interrupted or how many processes share it.

Everything random is a function of the seed and of a counter: the order of an epoch of (seed, epoch), the
augmentation of an image of (seed, epoch, image), the noise of a training step of (seed, step, process). So a
resumed run sees what an uninterrupted one would have seen, without saving any generator's state.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from multiprocessing import get_all_start_methods
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from backbones.errors import InputError
from harness.job_process import end_with_parent
from harness.loader_faults import loader_faults

OPEN_FILES = 4096


def seed_everything(*counters: int) -> None:
    """Seed Python's, NumPy's and PyTorch's generators from a tuple of counters."""
    words = np.random.SeedSequence(counters).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(words[1])
    torch.manual_seed(int(words[2]))


class TrainBatches(Sampler[list[tuple[int, int]]]):
    """Endless sampler of this process's share of every batch, as (epoch, index) keys.

    A batch is `micro * processes * accumulation` consecutive entries of the epoch's permutation; the rest
    at an epoch's end is dropped, as in the official code.

    start: the optimizer step to begin with.
    """

    def __init__(self, size: int, *, micro: int, accumulation: int, seed: int, rank: int, world_size: int) -> None:
        self.start = 0
        self._size = size
        self._micro = micro
        self._accumulation = accumulation
        self._seed = seed
        self._rank = rank
        self._world_size = world_size

    @property
    def steps_per_epoch(self) -> int:
        return self._size // (self._micro * self._accumulation * self._world_size)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        step = self.start
        while True:
            epoch, within = divmod(step, self.steps_per_epoch)
            order = np.random.default_rng((self._seed, epoch)).permutation(self._size)
            for batch in range(within, self.steps_per_epoch):
                yield from self._shares(epoch, order, batch)
            step = (epoch + 1) * self.steps_per_epoch

    def _shares(self, epoch: int, order: np.ndarray, batch: int) -> Iterator[list[tuple[int, int]]]:
        for part in range(self._accumulation):
            first = ((batch * self._accumulation + part) * self._world_size + self._rank) * self._micro
            yield [(epoch, int(index)) for index in order[first : first + self._micro]]


class _TrainSet(Dataset):
    """Samples by (epoch, index), each augmented with random numbers of its own."""

    def __init__(self, items: Dataset, seed: int) -> None:
        self._items = items
        self._seed = seed

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, key: tuple[int, int]) -> Any:
        seed_everything(self._seed, *key)
        return _guarded(self._items, key[1])


class _EvalSet(Dataset):
    def __init__(self, items: Dataset) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Any:
        return _guarded(self._items, index)


def _guarded(items: Dataset, index: int) -> Any:
    """Read a sample; an error is returned, since a loader process would bury it in its own traceback."""
    try:
        return items[index]
    except InputError as error:
        return error


class _Collate:
    """The data set's own collation, or the error if a sample is one."""

    def __init__(self, items: Dataset) -> None:
        self._collate = getattr(items, "collate", default_collate)

    def __call__(self, batch: Sequence[Any]) -> Any:
        broken = next((item for item in batch if isinstance(item, InputError)), None)
        return broken if broken is not None else self._collate(batch)


def train_loader(items: Dataset, batches: TrainBatches, *, workers: int, seed: int) -> DataLoader:
    """Make the endless loader of this process's share of the training data."""
    return _loader(items, _TrainSet(items, seed), batches, workers=workers, persistent_workers=workers > 0)


def eval_loader(items: Dataset, batches: Sequence[Sequence[int]], *, workers: int) -> DataLoader:
    """Make a loader of the given batches of indices."""
    return _loader(items, _EvalSet(items), batches, workers=min(workers, len(batches)))


def _loader(items: Dataset, guarded: Dataset, batches: Iterable, *, workers: int, **options: Any) -> DataLoader:
    if workers:
        _allow_open_files()
        # Forked processes share the samples in memory; others would each read a pickled copy.
        options["multiprocessing_context"] = "fork" if "fork" in get_all_start_methods() else None
    return DataLoader(
        guarded,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_Collate(items),
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=partial(_in_worker, parent=os.getpid()) if workers else None,
        **options,
    )


def _in_worker(_: int, *, parent: int) -> None:
    """Die with the main process, and leave Ctrl-C to it."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.excepthook = _without_main_process
    end_with_parent()  # elsewhere than on Linux they notice after some seconds
    if os.getppid() != parent:  # it died before
        os._exit(1)


def _allow_open_files() -> None:
    """Raise this process's limit of open files: each tensor on its way from a loader process holds one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _without_main_process(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say nothing where the main process is gone while it was sent a batch."""
    if not issubclass(kind, (ConnectionError, EOFError)):
        sys.__excepthook__(kind, error, trace)


class Unbroken(Iterator):
    """Iterator over the batches of a loader; raises one that is an error.

    waited: seconds in which the next batch was not there yet, so far.
    """

    def __init__(self, batches: Iterable[Any]) -> None:
        self.waited = 0.0
        with loader_faults():
            self._batches = iter(batches)

    def __next__(self) -> Any:
        began = time.monotonic()
        with loader_faults():
            batch = next(self._batches)
        self.waited += time.monotonic() - began
        if isinstance(batch, InputError):
            raise batch
        return batch
