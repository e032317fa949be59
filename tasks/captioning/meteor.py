"""METEOR 1.5: word matches by its Java program, the score from their sums.

Denkowski and Lavie, Meteor Universal, WMT 2014; the parameters are those of the program for English (`-l en`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager

import numpy as np

from tasks.captioning import java

ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75
STAGE_WEIGHTS = np.array([1.0, 0.6, 0.8, 0.6])  # exact, stem, synonym, paraphrase

# The program builds a table of paraphrases that fills most of a GiB and stays: this collector spends a tenth less
# processor time on it. The usual ones are switched off in case JAVA_TOOL_OPTIONS has one on, as Java takes only one.
MEMORY = ("-Xmx2G", "-Xms1G", "-XX:-UseSerialGC", "-XX:-UseG1GC", "-XX:+UseParallelGC")

# Columns of the statistics: words and function words of candidate and reference; of each stage the matched content
# words (candidate, reference) and function words (candidate, reference); chunks; matched words of both.
CANDIDATE, REFERENCE = 0, 1
STAGES, CHUNKS, MATCHES = slice(4, 20), 20, slice(21, 23)
COLUMNS = 23

_BREAK = re.compile("[\r\n]")


def started(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> AbstractContextManager[java.Run]:
    """Start METEOR on tokenized captions; `statistics` reads its output.

    Raises:
        InputError: there is no Java.
    """
    lines = [_line(candidate, texts) for candidate, texts in zip(candidates, references, strict=True)]
    jar = java.package() / "meteor" / "meteor-1.5.jar"
    arguments = [*MEMORY, "-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-norm"]
    return java.running("METEOR", arguments, stdin="".join(lines))


def _line(candidate: str, references: Sequence[str]) -> str:
    """One request: SCORE ||| reference ||| ... ||| candidate."""
    fields = [*(text.replace("|||", "") for text in references), candidate.replace("|||", "").replace("  ", " ")]
    return _BREAK.sub(" ", " ||| ".join(["SCORE", *fields])) + "\n"


def statistics(run: java.Run, *, images: int) -> np.ndarray:
    """Statistics of a run, float64 [images, 23]: rows sum up to the statistics of a corpus.

    A candidate that equals its reference has one chunk, which METEOR leaves out of a sum; it is 0 here.

    Raises:
        InputError: the run failed, or its answer is not one line of statistics per image.
    """
    lines = run.output().splitlines()
    if len(lines) != images:
        raise run.failed(f"returned {len(lines):,} lines for {images:,} images")
    try:
        found = np.array([[float(number) for number in line.split()] for line in lines]).reshape(images, COLUMNS)
    except ValueError:
        odd = next((line for line in lines if not re.fullmatch(r"(\d+\.\d+ ?){23}", line)), lines[0])
        raise run.failed(f"returned {odd[:80]!r} where {COLUMNS} numbers were due") from None
    stages = found[:, STAGES]
    same = (
        (stages[:, 0::2].sum(1) == found[:, CANDIDATE])
        & (stages[:, 1::2].sum(1) == found[:, REFERENCE])
        & (found[:, CHUNKS] == 1)
    )
    found[same, CHUNKS] = 0
    return found


def score(sums: np.ndarray) -> np.ndarray:
    """METEOR in [0, 1] from (sums of) statistics, [..., 23] -> [...]; 0 where nothing matches."""
    with np.errstate(divide="ignore", invalid="ignore"):
        precision, recall = (_matched(sums, side) / _weighed(sums, side) for side in (CANDIDATE, REFERENCE))
        mean = 1 / ((1 - ALPHA) / precision + ALPHA / recall)
        fragmentation = sums[..., CHUNKS] / (sums[..., MATCHES].sum(-1) / 2)
        return np.nan_to_num(mean * (1 - GAMMA * fragmentation**BETA))


def _matched(sums: np.ndarray, side: int) -> np.ndarray:
    """Matched words of one side, each with the weight of its stage and kind."""
    content, function = (sums[..., STAGES][..., first::4] for first in (side, 2 + side))
    return DELTA * (content @ STAGE_WEIGHTS) + (1 - DELTA) * (function @ STAGE_WEIGHTS)


def _weighed(sums: np.ndarray, side: int) -> np.ndarray:
    """Words of one side, function words with less weight."""
    words, function = sums[..., side], sums[..., 2 + side]
    return DELTA * (words - function) + (1 - DELTA) * function
