from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from backbones import InputError
from backbones.tokenizer import EOS, PAD, UNK, Tokenizer
from tests.support.spm import train as train_spm

TEXTS = (
    "A red circle is left of a star.",
    " leading and  double   spaces ",
    "tab\tand\nnew line",
    "How many stars? 3 or 4!",
    "Straße, naïve, 漢字, 🙂",
    "UPPER lower MiXeD",
    "",
)


@pytest.mark.parametrize("byte_fallback", [False, True], ids=["with unknown pieces", "with byte pieces"])
def test_ids_equal_those_of_transformers(tmp_path: Path, byte_fallback: bool) -> None:
    transformers = pytest.importorskip("transformers", "4.57", reason="transformers 4.57 is not installed")
    path = train_spm(tmp_path / "small.spm", pieces=500, byte_fallback=byte_fallback)
    ours, theirs = Tokenizer(path), transformers.XLMRobertaTokenizer(str(path))
    assert (len(ours), ours.mask) == (len(theirs), theirs.mask_token_id)
    assert (theirs.bos_token_id, theirs.pad_token_id, theirs.eos_token_id, theirs.unk_token_id) == (0, PAD, EOS, UNK)
    for text in TEXTS:
        ids = theirs.encode(text, add_special_tokens=False)
        assert ours.encode(text) == ids
    ids = ours.encode("How many stars?")
    assert max(ids) < ours.mask
    assert min(ids) > UNK
    assert ours.decode([0, *ids, EOS, PAD, ours.mask]) == theirs.decode(ids) == "How many stars?"
    assert (UNK in ours.encode("漢")) is not byte_fallback


def test_a_tokenizer_can_be_sent_to_a_loader_process(spm: Path) -> None:
    tokenizer = Tokenizer(spm)
    assert pickle.loads(pickle.dumps(tokenizer)).encode("a star") == tokenizer.encode("a star")


@pytest.mark.parametrize("content", [b"no sentencepiece model", b""])
def test_a_file_that_is_no_model_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "wrong.spm"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"wrong\.spm is not a sentencepiece model"):
        Tokenizer(path)
    with pytest.raises(InputError, match="No tokenizer file"):
        Tokenizer(tmp_path / "absent.spm")


@pytest.mark.parametrize("rows", [2047, 2200], ids=["too small", "too large"])
def test_a_tokenizer_of_another_size_than_the_weights_is_told(spm: Path, rows: int) -> None:
    tokenizer = Tokenizer(spm)
    tokenizer.require_fit(2048)
    tokenizer.require_fit(2056)  # the released embedding has eight rows more than ids
    with pytest.raises(InputError, match="do not belong together"):
        tokenizer.require_fit(rows)
