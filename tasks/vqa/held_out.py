"""The validation images that BEiT-3's training set goes without."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from backbones.errors import InputError
from tasks.common.reading import Remembered, read_json, read_lines
from tasks.vqa.index_file import image_of, index_file
from tasks.vqa.question_set import ImageId

HELD_OUT_FILE = "vqa/rest_val_images.json"
HELD_OUT_IMAGES = 1000  # as in the official code
_SEED = "BEiT-3 rest_val 0"


def held_out_source(root: Path) -> Path | None:
    """The file that says which validation images are held out, when there is one."""
    return next((file for file in (index_file(root, "rest_val"), root / HELD_OUT_FILE) if file.is_file()), None)


def held_out_images(root: Path, images: Iterable[ImageId]) -> frozenset[ImageId]:
    """Ids of the validation images that are held out from training.

    The official code draws them unseeded, so everyone's are others. Those of `vqa.rest_val.jsonl` when it is there;
    else the list `vqa/rest_val_images.json`; else 1,000 (at most half of all), always the same.

    Args:
        images: ids of all validation images.

    Raises:
        InputError: a list that is empty or names images that are not among them.
    """
    known = set(images)
    source = held_out_source(root)
    if source is not None:
        return _checked(_listed_ids(source), known, source)
    return frozenset(sorted(known, key=_rank)[: min(HELD_OUT_IMAGES, len(known) // 2)])


def _read_listed_ids(file: Path) -> Any:
    what = "held-out questions"
    if file.suffix == ".jsonl":
        return {image_of(where, row) for where, row in read_lines(file, what=what)}
    return read_json(file, what=what)


_listed_ids = Remembered(_read_listed_ids)


def _rank(image: ImageId) -> str:
    """Place in a random order that no version of any random generator can change."""
    return hashlib.sha256(f"{_SEED} {image}".encode()).hexdigest()


def _checked(ids: Any, known: set[ImageId], file: Path) -> frozenset[ImageId]:
    if not isinstance(ids, list | set) or not ids or not all(isinstance(i, int) or i in known for i in ids):
        raise InputError(
            f"{file} should list the ids of the held-out images. Fix it, or remove it to have them chosen."
        )
    if unknown := sorted(set(ids) - known):
        raise InputError(
            f"{file} names {len(unknown):,} image(s) of which val2014 has no question, such as {unknown[0]}. Provide "
            "the list that belongs to these questions, or remove it to have the images chosen."
        )
    return frozenset(ids)
