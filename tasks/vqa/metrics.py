"""The official VQA accuracy, and the normalisation of answers that it shares with the answer vocabulary.

Source: Antol et al., VQA: Visual Question Answering, ICCV 2015, in the form of GT-Vision-Lab/VQA's vqaEval.py; the
quirks of that file are kept, and said where they are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

ANSWERS = 10  # people who answered each question

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_DIGITS_AROUND_COMMA = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
_MOST_PERIODS = 32  # the official code passes a flag of this value where the number of replacements belongs
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
    form[:place] + form[place + 1 :]: form for form in _CONTRACTED for place, mark in enumerate(form) if mark == "'"
} | {"somebody'd": "somebodyd"}


@lru_cache(maxsize=1 << 18)  # people give the same answers again and again
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
    return _PERIOD.sub("", out, count=_MOST_PERIODS)


def accuracy(answer: str, truth: Sequence[str]) -> float:
    """The official accuracy of one answer, in [0, 1].

    Each person in turn is left out, the answer earns min(matches among the others / 3, 1), and the mean counts.
    Answers are compared after normalisation, but as they are when all people agree: then "The yes" is no "yes".

    Args:
        truth: what the people answered, in their words.
    """
    given = {text: _one_line(text) for text in set(truth)}
    answer = _one_line(answer)
    if len(set(given.values())) > 1:
        given = {text: normalize_word(line) for text, line in given.items()}
        answer = normalize_word(answer)
    matches = sum(truth.count(text) for text, form in given.items() if form == answer)
    return leave_one_out(matches, of=len(truth))


def _one_line(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


def leave_one_out(matches: int, *, of: int) -> float:
    """Mean over `of` people of min(matches among the others / 3, 1): 0, .3, .6, .9, 1 for 0 to 4 matches of ten."""
    without_a_match, without_another = min((matches - 1) / 3, 1), min(matches / 3, 1)
    return (matches * without_a_match + (of - matches) * without_another) / of
