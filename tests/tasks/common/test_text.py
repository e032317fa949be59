from __future__ import annotations

from pathlib import Path

import pytest

from backbones import InputError
from backbones.tokenizer import BOS, EOS, PAD, UNK, Tokenizer
from tasks.common.text import TextField, collate
from tests.support.spm import train as train_spm


@pytest.fixture
def field(spm: Path) -> TextField:
    return TextField(tokenizer=Tokenizer(spm), length=8)


def test_texts_are_framed_and_cut(field: TextField) -> None:
    ids = field.tokenizer.encode("a star")
    assert field("a star", of="x").tolist() == [BOS, *ids, EOS]
    long = field("star " * 2000, of="x")
    assert len(long) == 8
    assert long[-1] == EOS
    assert field(ids, of="x").tolist() == [BOS, *ids, EOS]  # as an index file gives them


def test_batches_are_padded_to_their_longest(field: TextField) -> None:
    items = [{"text": field(text, of="x"), "label": n} for n, text in enumerate(("a", "star star star"))]
    batch = collate(items)
    assert batch["text"].shape == batch["text_padding"].shape == (2, 8)
    assert (batch["text"][batch["text_padding"]] == PAD).all()
    assert batch["text_padding"].sum(1).tolist() == [8 - len(items[0]["text"]), 0]
    assert batch["label"].tolist() == [0, 1]


def test_a_batch_without_padding_has_no_mask(field: TextField) -> None:
    items = [{"text": field("star star", of="x")}, {"text": field("star star", of="y")}]
    assert collate(items).keys() == {"text"}


def test_texts_that_cannot_be_meant_are_told(field: TextField, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="text of caption 7 is empty"):
        field("", of="caption 7")
    with pytest.raises(InputError, match="token id 64000 in q1"):
        field([5, 64_000], of="q1")
    without_bytes = Tokenizer(train_spm(tmp_path / "small.spm", pieces=500, byte_fallback=False))
    assert UNK in without_bytes.encode("漢 star")
    strict = TextField(tokenizer=without_bytes, length=8)
    strict("漢 star", of="x")
    with pytest.raises(InputError, match="knows no piece of the text of x"):
        strict([UNK, UNK], of="x")
