from __future__ import annotations

from pathlib import Path

import pytest
import torch

from backbones import InputError
from backbones.tokenizer import Tokenizer
from tasks.adapter import Sample
from tasks.common.images import square
from tasks.common.text import TextField
from tasks.retrieval.dataset import RetrievalDataset
from tests.support.spm import train
from tests.tasks.captioned import write_flickr30k

IMAGE, OTHER = ({"image": f"flickr30k-images/{number}.jpg"} for number in (7000, 7001))
SAMPLES = [
    Sample("image:0", IMAGE, None),
    Sample("image:1", OTHER, None),
    Sample("text:0", {"text": "A red picture on the wall."}, None),
    Sample("text:1", {"text": [40, 41]}, None),  # ids of an index file
    Sample("text:2", IMAGE | {"text": "A pair."}, None),
    Sample("text:3", {"text": "漢字 漢"}, None),
    Sample("text:4", {"text": " "}, None),
    Sample("text:5", {"text": [40, 2048]}, None),
]


@pytest.fixture
def spm(tmp_path: Path) -> Path:
    """A tokenizer that does not know every character."""
    return train(tmp_path / "small.spm", pieces=2046, byte_fallback=False)


@pytest.fixture
def items(tmp_path: Path, spm: Path) -> RetrievalDataset:
    text = TextField(tokenizer=Tokenizer(spm), length=8)
    return RetrievalDataset(SAMPLES, root=write_flickr30k(tmp_path, images=4), transform=square(16), text=text)


def test_an_item_has_what_its_sample_names(items: RetrievalDataset, spm: Path) -> None:
    assert len(items) == len(SAMPLES)
    assert [sorted(items[index]) for index in (0, 2, 4)] == [["image"], ["tokens"], ["image", "tokens"]]
    assert items[0]["image"].shape == (3, 16, 16)
    ids = Tokenizer(spm).encode("A red picture on the wall.")
    assert len(ids) > 6
    assert items[2]["tokens"].tolist() == [0, *ids[:6], 2]  # as it was written, cut to eight
    assert items[3]["tokens"].tolist() == [0, 40, 41, 2]


def test_a_batch_of_images_and_texts(items: RetrievalDataset) -> None:
    batch = items.collate([items[index] for index in (0, 1, 2, 3)])
    assert batch["image"].shape == (2, 3, 16, 16)
    assert torch.equal(batch["image"][1], items[1]["image"])
    assert batch["text"].shape == batch["text_padding"].shape == (2, 8)
    assert batch["text"][1].tolist() == [0, 40, 41, 2, 1, 1, 1, 1]
    assert batch["text_padding"].sum(1).tolist() == [0, 4]


def test_batches_of_images_only_texts_only_and_pairs(items: RetrievalDataset) -> None:
    assert items.collate([items[0], items[1]]).keys() == {"image"}
    assert items.collate([items[3]]).keys() == {"text"}  # one text is not padded
    assert items.collate([items[4]]).keys() == {"image", "text"}


def test_a_batch_whose_records_would_come_out_of_order_is_refused(items: RetrievalDataset) -> None:
    with pytest.raises(ValueError, match="images of a batch must come before its texts"):
        items.collate([items[2], items[0]])


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (5, r"knows no piece of the text of text:3: '漢字 漢'"),
        (6, r"The text of text:4 is empty"),
        (7, r"token id 2048 in text:5, and the tokenizer .* ends at 2047"),
    ],
)
def test_a_text_that_means_nothing_to_the_tokenizer_is_told(items: RetrievalDataset, index: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        items[index]
