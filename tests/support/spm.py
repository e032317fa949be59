"""Small sentencepiece models for tests."""

from __future__ import annotations

import io
from pathlib import Path

import sentencepiece

SENTENCES = (
    "A red circle is left of two small blue squares on a white background.",
    "How many striped stars are above the large green triangle?",
    "There are three dogs, a cat and four birds in both of the images.",
    "The left image shows at least one person with a bicycle; the right one does not.",
    "Zwei Hunde spielen im Schnee, während ein Mann mit Hut zusieht.",
)


def train(path: Path, *, pieces: int, byte_fallback: bool = True) -> Path:
    """A unigram model of exactly `pieces` pieces, special ones counted."""
    bare = {
        "model_type": "unigram",
        "byte_fallback": byte_fallback,
        "vocab_size": 400,
        "hard_vocab_limit": False,
        "minloglevel": 2,
    }
    learnt = _pieces(bare)
    extra = pieces - learnt
    if extra < 0:
        raise ValueError(f"{learnt} pieces are learnt already; {pieces} are too few.")
    padded = bare | {
        "vocab_size": bare["vocab_size"] + extra,
        "user_defined_symbols": [f"<extra{n}>" for n in range(extra)],
    }
    path.write_bytes(_model(padded))
    return path


def _model(options: dict) -> bytes:
    model = io.BytesIO()
    sentences = iter(SENTENCES * 20)
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=sentences, model_writer=model, **options)
    return model.getvalue()


def _pieces(options: dict) -> int:
    return sentencepiece.SentencePieceProcessor(model_proto=_model(options)).get_piece_size()
