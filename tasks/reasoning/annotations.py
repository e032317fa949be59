"""NLVR2 on disk: the official annotations, and the index files of the BEiT-3 code.

nlvr/nlvr2/data/train.json, dev.json, test1.json, …   a clone of lil-lab/nlvr: a statement per line
nlvr2.train.index.jsonl, nlvr2.dev.index.jsonl, …     the same, with the text as token ids
images/train/<directory>/<pair>-img0.png, -img1.png   also dev/, test1/ and test2/, without a directory
"""

from __future__ import annotations

from pathlib import Path

from backbones.errors import AbsentError, InputError
from tasks.adapter import Sample
from tasks.common.nearby import nearby
from tasks.common.reading import field, read_lines, require_unique

ANNOTATIONS = "nlvr/nlvr2/data"  # of a clone of lil-lab/nlvr in the data folder
FILES = {
    "train": "train.json",
    "dev": "dev.json",
    "test-P": "test1.json",
    "test-U": "test2.json",
}
IMAGE_FOLDERS = {
    "train": "images/train",
    "dev": "dev",
    "test-P": "test1",
    "test-U": "test2",
}
LABELS = {"False": 0, "True": 1}


def read_samples(root: Path, split: str) -> list[Sample]:
    """The statements of a split in the file's order; the annotation file wins over the index file.

    inputs: {"images": [left, right] paths relative to `root`, "text": sentence, or token ids of an index file}.
    annotation: {"label": 0 or 1}.

    Raises:
        InputError: neither file, a field missing or not of its form, an identifier twice.
    """
    file, index = root / ANNOTATIONS / FILES[split], root / f"nlvr2.{split}.index.jsonl"
    if not file.is_file() and not index.is_file():
        raise AbsentError(
            f"No NLVR2 {split} annotations under {root}: neither {ANNOTATIONS}/{FILES[split]} (clone lil-lab/nlvr "
            f"into the folder) nor {index.name}. Or draw a practice set with `harness toy FOLDER`."
            + nearby(root, f"{ANNOTATIONS}/{FILES[split]}", index.name)
        )
    samples = _annotated(file, split) if file.is_file() else _indexed(index)
    require_unique((sample.id for sample in samples), what="identifier", where=file if file.is_file() else index)
    return samples


def sentence_of(identifier: str) -> str:
    """Key of the sentence that a statement repeats: the identifier without its pair."""
    fields = identifier.split("-")
    return "-".join([*fields[:2], *fields[3:]])


def _annotated(file: Path, split: str) -> list[Sample]:
    samples = []
    for where, row in read_lines(file, what=f"NLVR2 {split} annotations"):
        identifier, label = field(row, "identifier", where=where), field(row, "label", where=where)
        if label not in LABELS:
            raise InputError(f"{where}: the label of {identifier} is {label!r}, neither 'True' nor 'False'. Fix it.")
        folder = "/".join([IMAGE_FOLDERS[split], *([str(row["directory"])] if "directory" in row else [])])
        stem = f"{folder}/{identifier.rpartition('-')[0]}"
        inputs = {"images": [f"{stem}-img0.png", f"{stem}-img1.png"], "text": field(row, "sentence", where=where)}
        samples.append(Sample(identifier, inputs, {"label": LABELS[label]}))
    return samples


def _indexed(file: Path) -> list[Sample]:
    samples = []
    for where, row in read_lines(file, what="the official NLVR2 index"):
        images = [field(row, name, where=where) for name in ("image_path", "image2_path")]
        inputs = {"images": images, "text": field(row, "text_segment", where=where)}
        label = int(field(row, "label", where=where))
        samples.append(Sample(field(row, "identifier", where=where), inputs, {"label": label}))
    return samples
