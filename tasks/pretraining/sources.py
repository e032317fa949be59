"""Data to pretrain on: folders of images, files of texts, and image-text pairs.

Under one folder they are found as

    images/**/*.{jpg,jpeg,png,webp}      images, pairs' images among them or not
    texts/**/*.txt                       UTF-8, a text on each line
    pairs/*.json                         Karpathy files; image paths are relative to their folder or to the one above
    pairs/*.tar                          webdataset shards, here or at an address (`tasks.common.shards`)

and each can be given as a path of its own instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from backbones.errors import InputError
from backbones.files import reading
from backbones.tokenizer import BOS, EOS, Tokenizer
from tasks.adapter import Sample
from tasks.common.packing import Packed
from tasks.common.reading import field
from tasks.common.shards import INDEX
from tasks.common.shards import read as read_shards
from tasks.common.streaming import json_list
from tasks.pretraining import shards

IMAGE_FILES = {".jpg", ".jpeg", ".png", ".webp"}
LEAST_IMAGES = 2
LOOKED_AT = 100_000  # tokens, for one that is known


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Paths of each kind of data; None where there is none."""

    images: Path | None = None
    texts: Path | None = None
    pairs: Path | None = None

    def require(self, kind: str) -> Path:
        """The place of a kind of data.

        Raises:
            InputError: there is none.
        """
        place = getattr(self, kind)
        if place is None or not place.exists():
            where = f"there is no {place}" if place else "none was given"
            raise InputError(
                f"The recipe trains on {kind}, and {where}. Give --{kind} PATH, or a --data folder that has {kind}/; "
                "`--data toy` draws practice data."
            )
        return place


def under(folder: Path) -> Sources:
    """The sources in one folder."""
    found = {kind: folder / kind for kind in ("images", "texts", "pairs") if (folder / kind).exists()}
    return Sources(**found)


def read_images(folder: Path) -> Packed:
    """The images in a folder and its subfolders, by path: `inputs` have `image`, absolute.

    Raises:
        InputError: fewer than two images.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_FILES)
    if len(paths) < LEAST_IMAGES:
        raise InputError(
            f"{folder} has {len(paths)} image(s) ({', '.join(sorted(IMAGE_FILES))}), and pretraining needs at least "
            f"{LEAST_IMAGES}. Give the folder that holds them: --images FOLDER."
        )
    return Packed.of(Sample(str(path.relative_to(folder)), {"image": str(path)}, None) for path in paths)


def read_pairs(place: Path, *, pattern: str = "*") -> Packed:
    """Image-text pairs, one for each text of an image: `inputs` have `text`, and `image` or a place in a shard.

    Args:
        place: a Karpathy file, a tar shard, or a folder of them.
        pattern: of the names of the files in a folder that are read.

    Raises:
        InputError: there are none, or a file is damaged.
    """
    files = [place] if place.is_file() else sorted(place.glob(pattern))
    indexes = [file for file in files if file.name.endswith(INDEX)]
    files = [file for file in files if file.suffix == ".json" or (file.suffix == ".tar" and not indexes)]
    if not files and not indexes:
        raise InputError(
            f"{place} has no pairs that match {pattern!r}: neither Karpathy files (.json) nor webdataset shards "
            "(.tar). Give the file or the folder that has them: --pairs PATH."
        )
    with reading(place, "image-text pairs", fix="Write the file again, or leave it out."):
        found = Packed.of(pair for file in (*files, *indexes) for pair in _pairs(file))
    if not len(found):
        raise InputError(f"{place} holds no image-text pair. Give files that have some: --pairs PATH.")
    return found


def _pairs(file: Path) -> Iterator[Sample]:
    if file.name.endswith(INDEX):
        return shards.paired(read_shards(file.parent, file.name.removesuffix(INDEX)), file.parent)
    return shards.pairs(file) if file.suffix == ".tar" else _karpathy(file)


def _karpathy(file: Path) -> Iterator[Sample]:
    """The pairs of the training split of a Karpathy file (train and restval)."""
    roots: dict[str, Path] = {}
    for number, row in enumerate(json_list(file, "images", what="image-text pairs in Karpathy's form")):
        where = f"{file}, image {number}"
        if row.get("split", "train") not in ("train", "restval"):
            continue
        folder = str(row.get("filepath", ""))
        if folder not in roots:
            roots[folder] = _root(file, folder)
        path = roots[folder] / folder / field(row, "filename", where=where)
        for place, sentence in enumerate(field(row, "sentences", where=where)):
            text = field(sentence, "raw", where=where)
            yield Sample(f"{file.name}/{number}/{place}", {"image": str(path), "text": text}, None)


def _root(file: Path, folder: str) -> Path:
    return next((root for root in (file.parent, file.parent.parent) if (root / folder).is_dir()), file.parent)


def read_texts(place: Path, tokenizer: Tokenizer, *, length: int) -> np.ndarray:
    """Texts as rows of exactly `length` tokens, int32 [rows, length], without padding.

    All texts follow each other, each ended by `</s>`, and a row is `<s>`, the next `length` - 2 tokens and `</s>`; what
    is left at the end fills no row and is left out. Packing whole streams is how RoBERTa trains (arXiv 1907.11692,
    section 4.2, FULL-SENTENCES).

    Args:
        place: a text file, or a folder of them; UTF-8, a text on each line.

    Raises:
        InputError: no text, no known piece, or less than a row.
    """
    files = [place] if place.is_file() else sorted(place.rglob("*.txt"))
    if not files:
        raise InputError(f"{place} has no text file (.txt, a text on each line). Give --texts PATH.")
    stream = np.fromiter(_stream(files, tokenizer), np.int32)
    if not len(stream):
        raise InputError(f"{files[0] if len(files) == 1 else place} holds no text. Give files that have some: --texts.")
    if not tokenizer.decode(stream[:LOOKED_AT].tolist()).strip():  # the mark of a word's beginning is a known piece
        raise InputError(
            f"The tokenizer {tokenizer.path} knows no piece of the texts in {place}. Give the tokenizer that belongs "
            "to the texts and the weights: --tokenizer FILE."
        )
    inside = length - 2
    rows = len(stream) // inside
    if not rows:
        raise InputError(
            f"The texts in {place} have {len(stream)} tokens, less than one row of {inside}. Give more texts, or "
            f"--set text_length={len(stream) + 2}."
        )
    packed = np.full((rows, length), BOS, np.int32)
    packed[:, 1:-1] = stream[: rows * inside].reshape(rows, inside)
    packed[:, -1] = EOS
    return packed


def _stream(files: Sequence[Path], tokenizer: Tokenizer) -> Iterator[int]:
    for file in files:
        try:
            with file.open(encoding="utf-8") as lines:
                for line in lines:
                    if text := line.strip():
                        yield from tokenizer.encode(text)
                        yield EOS
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{file} is not readable UTF-8 text ({error}). Replace it, or leave it out.") from error
