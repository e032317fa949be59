from __future__ import annotations

import numpy as np
import pytest
import torch

from backbones.tokenizer import BOS, EOS, PAD, UNK
from tasks.captioning.dataset import CaptionDataset, corrupted

MASK = 63


@pytest.mark.slow
def test_words_are_masked_as_in_the_official_code() -> None:
    np.random.seed(0)
    original = torch.tensor([BOS, *range(10, 18), EOS])
    counts = {"mask": 0, "kept": 0, "other": 0}
    ends = 0
    for _ in range(3000):
        text, masked = corrupted(original, probability=0.7, mask=MASK)
        assert masked.sum() == 7
        assert not masked[0]
        assert torch.equal(text[~masked], original[~masked])
        ends += int(masked[-1])
        changed = text[masked]
        assert changed.min() >= UNK or (changed == EOS).any()
        assert changed.max() <= MASK
        counts["mask"] += int((changed == MASK).sum())
        counts["kept"] += int((changed == original[masked]).sum())
    counts["other"] = 7 * 3000 - counts["mask"] - counts["kept"]
    # A random token is <mask> or the word itself once in 61 each.
    assert counts["mask"] / 21_000 == pytest.approx(0.8 + 0.1 / 61, abs=0.01)
    assert counts["kept"] / 21_000 == pytest.approx(0.1 + 0.1 / 61, abs=0.01)
    assert counts["other"] / 21_000 == pytest.approx(0.1 * 59 / 61, abs=0.01)
    assert ends / 3000 == pytest.approx(7 / 9, abs=0.03)  # </s> may be masked like a word


@pytest.mark.parametrize(("length", "probability", "masked"), [(3, 0.0, 1), (3, 1.0, 2), (10, 0.75, 8), (10, 0.64, 6)])
def test_at_least_one_word_is_masked_and_never_all(length: int, probability: float, masked: int) -> None:
    text = torch.arange(length) + 5
    for _ in range(20):
        assert corrupted(text, probability=probability, mask=MASK)[1].sum() == masked


def test_batches_are_padded_to_their_longest_and_padding_is_not_masked() -> None:
    items = []
    for length in (4, 7):
        text = torch.arange(length) + 5
        items.append(
            {"image": torch.zeros(3, 4, 4), "text": text, "target": text + 1, "masked": torch.ones(length, dtype=bool)}
        )
    batch = CaptionDataset.collate(items)
    assert batch["image"].shape == (2, 3, 4, 4)
    assert batch["text"][0].tolist() == [5, 6, 7, 8, PAD, PAD, PAD]
    assert batch["target"][0].tolist() == [6, 7, 8, 9, PAD, PAD, PAD]
    assert batch["masked"].sum(1).tolist() == [4, 7]
    assert torch.equal(batch["masked"], ~batch["text_padding"])
