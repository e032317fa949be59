from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from backbones.errors import InputError
from backbones.tokenizer import BOS, EOS, PAD
from harness.loading import TrainBatches, seed_everything, train_loader
from tasks.adapter import Sample
from tasks.common.text import TextField
from tasks.pretraining import sources
from tasks.pretraining.dataset import Contrasted, Images, Mixed, Pairs, Texts
from tasks.pretraining.masking import BlockMasking, PairMasking, TokenMasking
from tasks.pretraining.views import Views
from tests.tasks.pretraining.test_shards import samples as shard_samples
from tests.tasks.pretraining.test_shards import write
from tests.tasks.pretraining.test_sources import WORDS

BLOCKS = BlockMasking(grid=4, ratio=0.4)
PAIRS = PairMasking(image=BLOCKS, text=TokenMasking(ratio=0.5))
TEXT = TextField(tokenizer=WORDS, length=12)


@pytest.fixture
def pairs(tmp_path: Path) -> list[Sample]:
    found = []
    for number, text in enumerate(("a red star", "two blue circles above a ring", "a cross")):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (20, 20), (number * 100, 0, 0)).save(path)
        found.append(Sample(str(number), {"image": str(path), "text": text}, None))
    return found


def item(items: Dataset, index: int, *, seed: int = 0) -> dict[str, torch.Tensor]:
    seed_everything(seed, 0, index)
    return items[index]


def test_an_image_has_its_mask_and_the_view_of_its_target(pairs: list[Sample]) -> None:
    made = item(Images(pairs, Views(sides=(64, 56)), BLOCKS), 1)
    assert {name: tuple(value.shape) for name, value in made.items()} == {
        "pixels": (3, 64, 64), "view": (3, 56, 56), "masked_patches": (16,)
    }  # fmt: skip
    assert made["masked_patches"].sum() == BLOCKS.count
    assert made["pixels"][0].unique().tolist() == [100]


def test_masks_are_functions_of_the_counters(pairs: list[Sample]) -> None:
    items = Pairs(pairs, Views(sides=(64,), smallest_crop=0.5), TEXT, PAIRS)
    for index in range(3):
        first, again = (item(items, index) for _ in range(2))
        assert all(torch.equal(first[name], again[name]) for name in first)
    masks = {tuple(item(items, 1, seed=seed)["masked_patches"].tolist()) for seed in range(20)}
    assert len(masks) > 5


def test_masked_tokens_are_replaced_and_kept_as_targets(pairs: list[Sample]) -> None:
    items = Pairs(pairs, Views(sides=(64,)), TEXT, PAIRS)
    sides = set()
    for seed in range(20):
        made = item(items, 1, seed=seed)
        masked = made["masked_tokens"]
        assert (made["text"][masked] == WORDS.mask).all()
        assert torch.equal(made["text"][~masked], made["target"][~masked])
        assert made["target"].tolist() == [BOS, *WORDS.encode("two blue circles above a ring")[:10], EOS]
        sides.add((bool(masked.any()), bool(made["masked_patches"].any())))
    assert sides == {(True, False), (False, True)}  # separate: never both, never neither


def test_a_batch_of_pairs_is_padded_to_its_longest(pairs: list[Sample]) -> None:
    items = Pairs(pairs, Views(sides=(64,)), TEXT, PAIRS)
    made = [item(items, index) for index in range(3)]
    batch = items.collate(made)
    lengths = [len(one["text"]) for one in made]
    assert batch["text"].shape == batch["target"].shape == batch["masked_tokens"].shape == (3, max(lengths))
    for number, length in enumerate(lengths):
        assert torch.equal(batch["target"][number, :length], made[number]["target"])
        assert (batch["target"][number, length:] == PAD).all()
        assert not batch["masked_tokens"][number, length:].any()
        assert batch["text_padding"][number].sum() == max(lengths) - length


def test_rows_of_texts_are_masked_anew_each_time(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a red star above a blue ring\n" * 20)
    rows = sources.read_texts(tmp_path, WORDS, length=16)
    items = Texts(rows, TokenMasking(ratio=0.15), mask=WORDS.mask)
    first, other = (item(items, 0, seed=seed) for seed in (1, 2))
    assert first["text"].dtype == torch.int64
    assert torch.equal(first["target"], other["target"])
    assert not torch.equal(first["masked_tokens"], other["masked_tokens"])
    assert not first["masked_tokens"][first["target"] == EOS].any()


def test_a_dual_encoder_takes_whole_texts_and_normalised_images(pairs: list[Sample]) -> None:
    items = Contrasted(pairs, Views(sides=(64,)), TEXT)
    batch = items.collate([items[0], items[1]])
    assert batch["image"].dtype == torch.float32
    assert batch["image"][0].unique().tolist() == [-1.0]  # black
    assert batch["text"][0, 1:4].tolist() == WORDS.encode("a red star")[:3]


def test_pairs_come_from_shards_too(tmp_path: Path) -> None:
    found = sources.read_pairs(write(tmp_path / "0.tar", shard_samples(3)))
    made = item(Pairs(found, Views(sides=(64,)), TEXT, PAIRS), 2)
    assert made["pixels"][0].unique().tolist() == [2]


def test_a_pair_whose_image_does_not_decode_is_named(pairs: list[Sample]) -> None:
    path = Path(pairs[1].inputs["image"])
    path.write_bytes(path.read_bytes()[:50])
    items = Pairs(pairs, Views(sides=(64,)), TEXT, PAIRS)
    with pytest.raises(InputError, match=rf"{path.name} .*Replace it"):
        item(items, 1)


class Ids(Dataset):
    """Items that are their own numbers."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> int:
        return index


def taken(
    mixed: Mixed, *, first: int, last: int, processes: int, workers: int = 0, batch: int = 6
) -> dict[str, Counter]:
    """Count how often steps `first` up to `last` use each sample, over all processes together."""
    counts = {kind: Counter() for kind in mixed.kinds}
    micro = batch // processes
    for rank in range(processes):
        batches = TrainBatches(len(mixed), micro=micro, accumulation=1, seed=5, rank=rank, world_size=processes)
        batches.start = first
        loader = iter(train_loader(mixed, batches, workers=workers, seed=5))
        for _ in range(first, last):
            for kind, ids in next(loader).items():
                counts[kind].update(ids.tolist())
    return counts


@pytest.mark.parametrize(("before", "after"), [(1, 1), (1, 3), (3, 2), (6, 1)])
def test_each_sample_is_taken_once_an_epoch_with_a_kill_in_the_middle(before: int, after: int) -> None:
    """Whatever the number of processes; the largest kind is taken once, a smaller one as often as it fits."""
    mixed = Mixed({"images": Ids(30), "texts": Ids(7)})
    killed = taken(mixed, first=0, last=2, processes=before)
    resumed = taken(mixed, first=2, last=5, processes=after)
    counts = {kind: killed[kind] + resumed[kind] for kind in killed}
    assert counts["images"] == Counter(range(30))
    assert sum(counts["texts"].values()) == 30
    assert set(counts["texts"]) == set(range(7))
    assert set(counts["texts"].values()) == {30 // 7, 30 // 7 + 1}


@pytest.mark.spawn
def test_loader_workers_share_an_epoch_without_loss() -> None:
    mixed = Mixed({"images": Ids(30), "pairs": Ids(30)})
    assert taken(mixed, first=0, last=5, processes=1, workers=2)["images"] == Counter(range(30))


def test_the_order_of_an_epoch_is_another_in_the_next() -> None:
    mixed = Mixed({"images": Ids(30)})
    first, second = (taken(mixed, first=start, last=start + 1, processes=1)["images"] for start in (0, 5))
    assert set(first) != set(second)
