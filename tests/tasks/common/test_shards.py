"""Samples in tar shards, in a folder or at an address: places, indexes, orders, and whatever is wrong with them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import urllib3
from torch.utils.data import Dataset

from backbones.errors import InputError
from harness.loading import TrainBatches, Unbroken, eval_loader, train_loader
from tasks.common import shards
from tasks.common.images import open_image
from tasks.common.shards import Member
from tests.support.processes import free_port
from tests.support.shards import png, served, write

COUNTS = (5, 8)  # samples of two shards
TOTAL = sum(COUNTS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two shards whose pictures count from 0."""
    path = tmp_path / "data"
    path.mkdir()
    numbers = itertools.count()
    for shard, count in enumerate(COUNTS):
        own = itertools.islice(numbers, count)
        members = {f"{number}.{kind}": content for number in own for kind, content in files(number).items()}
        write(path / f"train-{shard}.tar", members)
    return path


def files(number: int) -> dict[str, bytes]:
    return {"png": png(number), "cls": b"%d" % number}


@pytest.fixture
def away(folder: Path, tmp_path: Path) -> Iterator[Path]:
    """A folder with nothing but the index and the address of the shards; its server is `away.server`."""
    here = tmp_path / "here"
    here.mkdir()
    shards.write_index(here, "train", sorted(folder.glob("*.tar")))
    with served(folder) as server:
        (here / shards.ADDRESS).write_text(f"{server.address}\n")
        yield here


def number_of(root: Path, sample: shards.ShardSample) -> int:
    return int(np.asarray(open_image(root / sample.place))[0, 0, 0])


def test_an_index_says_what_the_shards_hold(folder: Path) -> None:
    scanned = list(shards.read(folder, "train"))
    shards.main(folder)
    assert (folder / "train.shards.jsonl").is_file()
    assert list(shards.read(folder, "train")) == scanned
    assert [sample.texts["cls"] for sample in scanned] == [str(number) for number in range(TOTAL)]
    assert [number_of(folder, sample) for sample in scanned] == list(range(TOTAL))
    assert not shards.are_in(folder, "val")


def test_images_at_an_address_are_read_at_their_places(away: Path) -> None:
    found = list(shards.read(away, "train"))
    assert [number_of(away, sample) for sample in found] == list(range(TOTAL))


class Numbers(Dataset):
    """An item is the number that the picture shows."""

    def __init__(self, root: Path) -> None:
        self.root, self.samples = root, list(shards.read(root, "train"))

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> int:
        return number_of(self.root, self.samples[index])


def shares(items: Numbers, *, start: int, steps: int, processes: int, workers: int) -> list[list[list[int]]]:
    """Numbers that each process sees in some steps: [processes][steps][micro-batch of 2]."""
    found = []
    for rank in range(processes):
        batches = TrainBatches(len(items), micro=2, accumulation=1, seed=3, rank=rank, world_size=processes)
        batches.start = start
        loader = Unbroken(train_loader(items, batches, workers=workers, seed=3))
        found.append([next(loader).tolist() for _ in range(steps)])
    return found


@pytest.mark.spawn
@pytest.mark.parametrize(("processes", "workers"), [(1, 0), (3, 2)])  # three processes on two shards
def test_a_killed_epoch_goes_on_and_has_each_sample_once(away: Path, processes: int, workers: int) -> None:
    items = Numbers(away)
    steps = TOTAL // (2 * processes)
    whole = shares(items, start=0, steps=steps, processes=processes, workers=0)
    killed = shares(items, start=0, steps=1, processes=processes, workers=workers)  # workers had read further
    later = shares(items, start=1, steps=steps - 1, processes=processes, workers=workers)
    assert [before + after for before, after in zip(killed, later, strict=True)] == whole
    seen = [number for share in whole for batch in share for number in batch]
    assert len(seen) == len(set(seen)) == steps * 2 * processes
    assert {len(share) for share in whole} == {steps}, "a process has more than another"
    assert {number < COUNTS[0] for number in seen} == {True, False}
    other = shares(items, start=steps, steps=steps, processes=processes, workers=0)
    assert other != whole


def test_evaluation_has_each_sample_once(away: Path) -> None:
    items = Numbers(away)
    batches = [list(range(first, min(first + 4, TOTAL))) for first in range(0, TOTAL, 4)]
    seen = [number for batch in eval_loader(items, batches, workers=2) for number in batch.tolist()]
    assert seen == list(range(TOTAL))


def test_a_server_that_is_busy_is_asked_again(folder: Path, away: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "WAIT", 0.001)
    shards._pool.cache_clear()
    (sample, *_) = shards.read(away, "train")
    with served(folder) as server:
        (away / shards.ADDRESS).write_text(server.address)
        shards._address.cache_clear()
        server.broken.extend([503, 429])
        assert number_of(away, sample) == 0
        assert server.asked == [f"bytes={sample.image.offset}-{sample.image.offset + sample.image.size - 1}"]
        server.broken.extend([503] * shards.TRIES)
        with pytest.raises(InputError, match=r"train-0\.tar cannot be reached, after 5 tries"):
            number_of(away, sample)
    (away / shards.ADDRESS).write_text(f"http://127.0.0.1:{free_port()}/data")
    shards._address.cache_clear()
    with pytest.raises(InputError, match="Run the same command again when it can"):
        number_of(away, sample)


@pytest.mark.parametrize(
    ("status", "whole", "message"),
    [(403, False, "is not given \\(status 403\\)"), (None, True, "gives whole files alone")],
)
def test_a_server_that_does_not_give_parts_is_told(
    folder: Path, away: Path, status: int | None, whole: bool, message: str
) -> None:
    (sample, *_) = shards.read(away, "train")
    with served(folder, whole=whole) as server:
        (away / shards.ADDRESS).write_text(server.address)
        shards._address.cache_clear()
        if status:
            server.broken.append(status)
        with pytest.raises(InputError, match=message):
            number_of(away, sample)


def test_a_shard_that_is_cut_off_is_refused_before_anything_is_read(folder: Path, away: Path) -> None:
    shards.write_index(folder, "train", sorted(folder.glob("*.tar")))
    shard = folder / "train-1.tar"
    shard.write_bytes(shard.read_bytes()[:-512])
    for root in (folder, away):
        with pytest.raises(InputError, match=r"train-1\.tar has [\d,]+ bytes, and [\d,]+ in the index: it is cut off"):
            list(shards.read(root, "train"))
    shard.unlink()
    with pytest.raises(InputError, match=r"train-1\.tar is in the index and absent"):
        list(shards.read(folder, "train"))
    with pytest.raises(InputError, match=r"train-1\.tar is not given \(status 404\)"):
        list(shards.read(away, "train"))


def test_a_place_beyond_a_shard_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="not a complete tar file"):
        shards.content(folder / "train-0.tar", offset=10**6, size=5)


def test_an_address_needs_an_index(away: Path) -> None:
    (away / "train.shards.jsonl").unlink()
    with pytest.raises(InputError, match=r"no train\.shards\.jsonl\. Write the index where the shards are"):
        list(shards.read(away, "train"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shard": "../train-0.tar"}, "is no name of a shard"),
        ({"size": 600}, "is outside of its shard"),
        ({"samples": [{"key": "a"}]}, "cannot be read"),
        ({"size": "many"}, "has no size"),
        ({"samples": []}, "it has 0 samples, and its last line says 5"),
    ],
)
def test_a_wrong_index_is_refused(folder: Path, change: dict, message: str) -> None:
    path = shards.write_index(folder, "train", [folder / "train-0.tar"])
    row, last = path.read_text().splitlines()
    path.write_text(f"{json.dumps(json.loads(row) | change)}\n{last}\n")
    with pytest.raises(InputError, match=message):
        list(shards.read(folder, "train"))


def test_an_index_that_is_cut_off_is_refused(folder: Path) -> None:
    shards.main(folder)
    path = folder / "train.shards.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    for kept in (lines[:-1], lines[:1] + lines[2:], [], lines + lines[-2:]):
        path.write_text("".join(kept))
        with pytest.raises(InputError, match=r"train\.shards\.jsonl .*Write it again"):
            list(shards.read(folder, "train"))


def test_shards_without_a_sample_are_refused(folder: Path) -> None:
    write(folder / "val-0.tar", {})
    with pytest.raises(InputError, match="hold no sample"):
        list(shards.read(folder, "val"))


def test_an_address_that_is_none_is_refused(away: Path) -> None:
    (sample, *_) = shards.read(away, "train")
    shards._address.cache_clear()
    (away / shards.ADDRESS).write_text("file:///etc")
    with pytest.raises(InputError, match="begins with http"):
        number_of(away, sample)
    shards._address.cache_clear()


def test_places_in_shards_are_told_from_files() -> None:
    assert shards.place_of(Path("a/b-0.tar@512+33")) == (Path("a/b-0.tar"), 512, 33)
    assert shards.place_of(Path("a/b-0.tar@512")) is None and shards.place_of(Path("a.tar@1/b.jpg")) is None
    assert (shards.file_of("a/b.tar@5+6"), shards.file_of("a/b.jpg")) == ("a/b.tar", "a/b.jpg")
    assert Member("a", 1, 2) == Member(*json.loads(json.dumps(Member("a", 1, 2))))


def test_connections_are_those_of_the_process() -> None:
    assert isinstance(shards._pool(1), urllib3.PoolManager) and shards._pool(1) is not shards._pool(2)
