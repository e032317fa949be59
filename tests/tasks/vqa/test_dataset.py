from __future__ import annotations

from pathlib import Path

import pytest
import torch

from backbones import InputError
from backbones.tokenizer import EOS, Tokenizer
from tasks.adapter import Sample
from tasks.common.images import square
from tasks.common.text import TextField
from tasks.vqa.dataset import VQADataset
from tasks.vqa.vocabulary import Vocabulary
from tests.support.questions import draw, image_name


def items(root: Path, spm: Path, vocabulary: Vocabulary | None) -> VQADataset:
    draw(root, "val2014", [600, 601])
    image = image_name("val2014", 600)
    samples = [
        Sample("600000", {"image": image, "text": "Is it a red car?"}, {"targets": {"no": 0.3, "yes": 0.9}}),
        Sample("600001", {"image": image_name("val2014", 601), "text": [7, 8]}, {"targets": {}}),
        Sample("600002", {"image": image, "text": [9, 5000]}, {"targets": {}}),
        Sample("600003", {"image": image_name("val2014", 602), "text": [9]}, {"targets": {}}),
    ]
    text = TextField(tokenizer=Tokenizer(spm), length=6)
    return VQADataset(samples, root=root, transform=square(16), text=text, vocabulary=vocabulary)


def test_a_batch_has_padded_texts_and_dense_targets(tmp_path: Path, spm: Path) -> None:
    own = items(tmp_path, spm, Vocabulary(("yes", "maybe", "no")))
    assert len(own) == 4
    batch = own.collate([own[0], own[1]])
    assert batch["image"].shape == (2, 3, 16, 16)
    assert not batch["image"][0].equal(batch["image"][1])
    torch.testing.assert_close(batch["target"], torch.tensor([[0.9, 0, 0.3], [0, 0, 0]]))
    assert batch["text"].shape == (2, 6)  # cut to the field's length
    assert batch["text"][0, -1] == EOS
    assert batch["text"][1].tolist() == [0, 7, 8, 2, 1, 1]
    assert batch["text_padding"].tolist() == [[False] * 6, [False] * 4 + [True] * 2]


def test_without_a_vocabulary_there_are_no_targets(tmp_path: Path, spm: Path) -> None:
    own = items(tmp_path, spm, None)
    assert own.collate([own[0]]).keys() == {"image", "text"}  # nothing is padded


def test_what_is_wrong_with_a_question_is_told_with_its_id(tmp_path: Path, spm: Path) -> None:
    own = items(tmp_path, spm, None)
    with pytest.raises(
        InputError, match=r"token id 5000 in question 600002, and the tokenizer .* was made with another"
    ):
        own[2]
    with pytest.raises(InputError, match=r"COCO_val2014_000000000602.jpg is named in the annotations but absent"):
        own[3]
