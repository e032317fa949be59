from __future__ import annotations

import numpy as np
import pytest

import backbones
from backbones.tokenizer import Tokenizer
from tasks.toy.tokenizer import model
from tasks.toy.words import sentences


@pytest.mark.slow
def test_the_bundled_tokenizer_is_this_one_and_fits_its_backbone() -> None:
    path = backbones.bundled_tokenizer("multiway_nano")
    assert path.read_bytes() == model()
    Tokenizer(path).require_fit(backbones.config("multiway_nano").vocab_size)
    assert backbones.bundled_tokenizer("beit3_base_patch16_224") is None


def test_toy_texts_take_about_a_token_a_word_and_others_can_be_spelled() -> None:
    tokenizer = Tokenizer(backbones.bundled_tokenizer("multiway_nano"))
    texts = [text for text in sentences(100) if text]
    tokens = [len(tokenizer.encode(text)) for text in texts]
    words = [len(text.split()) for text in texts]
    assert np.mean(tokens) < 1.25 * np.mean(words)
    assert max(tokens) < 62
    for text in (*texts[:200], "Zebras, naïve: 漢字 & 🙂!"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
