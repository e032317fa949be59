"""The normalisation of answers that the official VQA accuracy and the answer vocabulary share.

Source: GT-Vision-Lab/VQA's vqaEval.py; the quirks of that file are kept, and said where they are.
"""

from __future__ import annotations

import re
from functools import lru_cache

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_DIGITS_AROUND_COMMA = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
_MAX_PERIODS = 32  # the official code passes a flag of this value where the number of replacements belongs
_ARTICLES = {"a", "an", "the"}
_NUMBERS = {
    "none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7",
    "eight": "8", "nine": "9", "ten": "10",
}  # fmt: skip
# What the official list maps to itself, or has with capitals, which no lower-case word meets, is left out.
_CONTRACTED = [
    "'ow's'at", "'twas", "ain't", "aren't", "can't", "could've", "couldn't", "couldn't've", "didn't", "doesn't",
    "don't", "hadn't", "hadn't've", "hasn't", "haven't", "he'd", "he'd've", "he's", "how'd", "how'll", "how's",
    "isn't", "it'd", "it'd've", "it'll", "ma'am", "might've", "mightn't", "mightn't've", "must've", "mustn't",
    "needn't", "not've", "o'clock", "oughtn't", "shan't", "she'd've", "should've", "shouldn't", "shouldn't've",
    "somebody'd've", "somebody'll", "somebody's", "someone'd", "someone'd've", "someone'll", "someone's",
    "something'd", "something'd've", "something'll", "that's", "there'd", "there'd've", "there're", "there's",
    "they'd", "they'd've", "they'll", "they're", "they've", "wasn't", "we'd've", "we've", "weren't", "what'll",
    "what're", "what's", "what've", "when's", "where'd", "where's", "where've", "who'd", "who'd've", "who'll",
    "who's", "who've", "why'll", "why're", "why's", "won't", "would've", "wouldn't", "wouldn't've", "y'all",
    "y'all'd've", "y'all'll", "you'd", "you'd've", "you'll", "you're", "you've",
]  # fmt: skip
# A word gets back the one apostrophe that it lacks; "somebody'd" loses its own, a slip of the official list.
_CONTRACTIONS = {
    form[:index] + form[index + 1 :]: form for form in _CONTRACTED for index, mark in enumerate(form) if mark == "'"
} | {"somebody'd": "somebodyd"}


@lru_cache(maxsize=1 << 18)  # annotators give the same answers again and again
def normalize_word(text: str) -> str:
    """An answer without punctuation, articles and capitals, its number words up to ten as digits.

    The official code's `processPunctuation` and `processDigitArticle`; also ViLT's and BEiT-3's `normalize_word`,
    which does the same.
    """
    words = [_NUMBERS.get(word, word) for word in _without_punctuation(text).lower().split()]
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def _without_punctuation(text: str) -> str:
    """Marks become spaces, or nothing when the text has them beside a space, or has a comma between digits."""
    joined = _DIGITS_AROUND_COMMA.search(text) is not None
    out = text
    for mark in _PUNCTUATION:
        if mark in text:
            out = out.replace(mark, "" if joined or f"{mark} " in text or f" {mark}" in text else " ")
    return _PERIOD.sub("", out, count=_MAX_PERIODS)
