"""Caption scores, identical to those of pycocoevalcap's COCOEvalCap: tokenize, then measure.

Its BLEU, ROUGE and CIDEr code and its jars do the work. Java starts once for the PTB tokenizer and once for METEOR,
which runs while Python counts n-grams.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from backbones.errors import InputError, unknown
from tasks.bootstrap import Measurement, mean, unavailable, weighted_sum
from tasks.captioning import bleu, meteor, ptb, spice
from tasks.captioning.metric_names import ALL

BLEU = ALL[:4]


@dataclass(frozen=True)
class Captions:
    """Tokenized captions: words joined by single spaces.

    candidates: one per image, may be empty.
    references: of each image one or more.
    """

    candidates: tuple[str, ...]
    references: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        _check(self.candidates, self.references)
        if not any(text.split() for texts in self.references for text in texts):
            raise InputError("No reference caption has a word. Check the annotation file.")

    def subset(self, indices: Iterable[int]) -> Captions:
        """Some of the images, by their indices; at least one."""
        chosen = list(indices)
        return Captions(
            tuple(self.candidates[index] for index in chosen), tuple(self.references[index] for index in chosen)
        )


def _check(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if len(candidates) != len(references):
        raise InputError(f"There are {len(candidates):,} captions for the references of {len(references):,} images.")
    if not candidates:
        raise InputError("There are no captions to score: the list is empty.")
    for index, texts in enumerate(references):
        if not texts:
            raise InputError(
                f"Image {index} of {len(references):,} (counted from 0) has no reference caption. Fix the annotation "
                "file, or leave the image out."
            )


def caption_of(record: Mapping[str, Any], image: str) -> str:
    """The predicted caption of a record.

    Raises:
        InputError: it has none; the message names the image.
    """
    caption = record.get("caption")
    if not isinstance(caption, str):
        raise InputError(
            f"The prediction of image {image} has no caption (found: {caption!r}). A record of this task is "
            '{"id": image id, "caption": "…"}; an empty text is a caption too.'
        )
    return caption


def tokenized(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> Captions:
    """Tokenize raw captions with the PTB tokenizer, in one Java start.

    Args:
        candidates: one caption per image.
        references: the reference captions of each image.

    Raises:
        InputError: an image without references, no image, no Java, or one that does not do its work.
    """
    _check(candidates, references)
    first, others = ptb.tokenize(candidates, [text for texts in references for text in texts])
    rest = iter(others)
    return Captions(tuple(first), tuple(tuple(next(rest) for _ in texts) for texts in references))


def measure(captions: Captions, *, metrics: Sequence[str] = ALL) -> list[Measurement]:
    """The metrics by name, in points (100 times the fraction that pycocoevalcap prints); the unit is the image.

    CIDEr weighs n-grams by how many images of `captions` have them in a reference, so a subset is scored as if it
    were alone; a bootstrap draw keeps these weights. SPICE is `unavailable` where its parser is not installed.

    Raises:
        InputError: METEOR or SPICE is asked for and there is no Java, or it does not do its work.
        UsageError: an unknown metric.
    """
    for name in metrics:
        if name not in ALL:
            raise unknown("caption metric", name, ALL)
    texts = captions.candidates, captions.references
    found: dict[str, Measurement] = {}
    with ExitStack() as context:
        run = context.enter_context(meteor.started(*texts)) if "METEOR" in metrics else None
        if any(name in metrics for name in BLEU):
            found |= _bleu(bleu.statistics(*texts))
        if "ROUGE_L" in metrics:
            found["ROUGE_L"] = mean("ROUGE_L", _rouge(captions))
        if "CIDEr" in metrics:
            found["CIDEr"] = mean("CIDEr", _cider(captions))
        if run:
            found["METEOR"] = _meteor(meteor.statistics(run, images=len(captions.candidates)))
    if "SPICE" in metrics:
        found["SPICE"] = _spice(captions)
    return [found[name] for name in metrics]


def _bleu(statistics: np.ndarray) -> dict[str, Measurement]:
    images = len(statistics)

    def statistic(weights: np.ndarray) -> np.ndarray:
        return 100 * np.array(bleu.score(weighted_sum(weights, statistics)))

    return {name: Measurement(name, images, images, statistic, index=order) for order, name in enumerate(BLEU)}


def _meteor(statistics: np.ndarray) -> Measurement:
    images = len(statistics)

    def statistic(weights: np.ndarray) -> float:
        return 100 * float(meteor.score(weighted_sum(weights, statistics)))

    return Measurement("METEOR", images, images, statistic)


def _rouge(captions: Captions) -> np.ndarray:
    from pycocoevalcap.rouge.rouge import Rouge

    return Rouge().compute_score(*_keyed(captions))[1]


def _cider(captions: Captions) -> np.ndarray:
    from pycocoevalcap.cider.cider import Cider

    return Cider().compute_score(*_keyed(captions))[1]


def _keyed(captions: Captions) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    """References and candidates as pycocoevalcap's scorers take them."""
    references = {index: list(texts) for index, texts in enumerate(captions.references)}
    return references, {index: [text] for index, text in enumerate(captions.candidates)}


def _spice(captions: Captions) -> Measurement:
    obstacle = spice.obstacle()
    if obstacle:
        return unavailable("SPICE", obstacle, samples=len(captions.candidates))
    return mean("SPICE", spice.scores(captions.candidates, captions.references))
