"""Images with their captions as Karpathy and Fei-Fei split COCO and Flickr30K (arXiv 1412.2306).

`dataset_coco.json` and `dataset_flickr30k.json` hold every image of all splits with its sentences.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from backbones.errors import InputError
from tasks.common.reading import RESTORE, Remembered, field, require_unique
from tasks.common.streaming import json_list

COCO_FILE, FLICKR30K_FILE = "dataset_coco.json", "dataset_flickr30k.json"
FLICKR30K_IMAGES = "flickr30k-images"
RESTVAL = "restval"  # val2014 images that are neither in val nor in test: COCO's training split has them too


class Sentence(NamedTuple):
    """A caption as its author wrote it, or the token ids that an official index file has in its place."""

    id: str
    text: str | list[int]


class CaptionedImage(NamedTuple):
    """An image of a split, known without opening it."""

    id: str  # cocoid or imgid
    path: str  # relative to the data folder
    split: str  # as the file has it: train, restval, val or test
    sentences: Sequence[Sentence]


def read_coco(root: Path, split: str) -> list[CaptionedImage]:
    """The images of COCO's train (restval included), val or test, in the file's order; the id is the cocoid.

    Raises:
        InputError: the file is absent, not of that form, or has an image or a sentence twice.
    """
    splits = {split, RESTVAL} if split == "train" else {split}
    return [image for image in _images(root / COCO_FILE, id_field="cocoid") if image.split in splits]


def read_flickr30k(root: Path, split: str) -> list[CaptionedImage]:
    """The images of Flickr30K's train, val or test, in the file's order; the id is the imgid.

    Raises:
        InputError: as for COCO.
    """
    return [image for image in _images(root / FLICKR30K_FILE, id_field="imgid") if image.split == split]


def _read(path: Path, *, id_field: str) -> list[CaptionedImage]:
    rows = json_list(path, "images", what="the Karpathy split")
    images = [_image(row, id_field=id_field, where=f"{path}, image {number}") for number, row in enumerate(rows)]
    require_unique((image.id for image in images), what=id_field, where=path)
    require_unique((sentence.id for image in images for sentence in image.sentences), what="sentid", where=path)
    return images


_images = Remembered(_read)  # of all splits


def _image(row: Any, *, id_field: str, where: str) -> CaptionedImage:
    name = field(row, "filename", where=where)
    # Flickr30K's file leaves the folder out.
    folder = row.get("filepath", FLICKR30K_IMAGES)
    sentences = [_sentence(sentence, where=where) for sentence in field(row, "sentences", where=where)]
    return CaptionedImage(
        str(field(row, id_field, where=where)), f"{folder}/{name}", str(field(row, "split", where=where)), sentences
    )


def _sentence(row: Any, *, where: str) -> Sentence:
    number, raw = field(row, "sentid", where=where), field(row, "raw", where=where)
    if not isinstance(raw, str):
        raise InputError(f"{where}: the text of sentence {number} is {raw!r}, not a text. {RESTORE}")
    return Sentence(str(number), raw)
