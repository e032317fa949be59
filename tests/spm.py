<<<<<<< HEAD
"""Small sentencepiece models for tests."""
=======
"""A tokenizer of the right size for `multiway_nano`, trained on a few words."""
>>>>>>> 10948f2 (Image-text retrieval: COCO, Flickr30K and zero-shot; a loss over the joint batch of all processes)

from __future__ import annotations

import io
<<<<<<< HEAD
=======
import string
>>>>>>> 10948f2 (Image-text retrieval: COCO, Flickr30K and zero-shot; a loss over the joint batch of all processes)
from pathlib import Path

import sentencepiece

<<<<<<< HEAD
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
=======
PIECES = 2046  # with <pad> and <mask> as many ids as `multiway_nano` has rows
LEARNT = 320
WORDS = """
a an the one two three some of on in at to with and is are by near under over from for its it up down off out next
man woman boy girl child people person group player dog cat horse bird cow sheep bear elephant giraffe zebra
bus car truck train plane bicycle motorcycle boat street road sign light bench table chair couch bed kitchen room
plate food pizza cake sandwich fruit banana apple cup bottle bowl knife fork phone laptop computer book clock vase
ball bat tennis baseball skateboard surfboard wave beach snow ski field grass tree sky water building wall window
black blue brown green orange purple red white yellow grey small large big young old tall standing sitting riding
holding eating playing walking looking wearing flying driving jumping parked sliced circle square triangle star
striped dotted solid left right above below beside background front picture photo close view zoo box jar quilt
"""


def train(path: Path) -> Path:
    """Write a sentencepiece model of `PIECES` pieces; those beyond `LEARNT` stand for no text."""
    words = WORDS.split()
    sentences = [" ".join(words[start::step]) for step in range(1, 24) for start in range(step)]
    sentences.append(" ".join(string.ascii_letters + string.digits + string.punctuation))
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=model,
        model_type="bpe",
        vocab_size=PIECES,
        character_coverage=1.0,
        user_defined_symbols=[f"<extra{number}>" for number in range(PIECES - LEARNT)],
        minloglevel=2,
    )
    path.write_bytes(model.getvalue())
    return path
>>>>>>> 10948f2 (Image-text retrieval: COCO, Flickr30K and zero-shot; a loss over the joint batch of all processes)
