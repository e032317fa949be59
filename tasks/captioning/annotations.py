"""Captions on disk: Karpathy's split of COCO, files in the form of COCO's annotations, index files of the BEiT-3 code.

COCO      train-*.tar                                          training captions in shards (`tasks.common.shards`),
                                                               which win: an image and its caption in .txt, or
                                                               `caption` or a list `captions` in .json
          dataset_coco.json                                    see `tasks.common.karpathy`
          coco_captioning.{train,val,test}.jsonl               index files, used where it is absent, with
          coco_karpathy_{val,test}_gt.json                     the references of these
                                                               or these alone, which are enough to score
          annotations/captions_val2014.json                    COCO's own val2014 with references
          annotations/image_info_test2014.json                 the images of COCO's own test split
NoCaps    nocaps_val_4500_captions.json                        images with references
          nocaps_test_image_info.json                          images alone
          nocaps.{val,test}.jsonl, nocaps_val_gt.json          as for COCO
          ../coco/dataset_coco.json                            training captions; or in the folder itself

A training sample is a caption: inputs {"image": path, "text": caption, or token ids of an index file}, no annotation. A
sample to describe is an image: inputs {"image": path}, annotation {"captions": references}, for NoCaps with "domain".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from backbones.errors import AbsentError, InputError
from backbones.files import reading
from tasks.adapter import Sample
from tasks.common import shards
from tasks.common.karpathy import COCO_FILE, read_coco
from tasks.common.nearby import nearby
from tasks.common.reading import field, read_json, read_lines
from tasks.common.shards import ShardSample

VAL_CAPTIONS = "annotations/captions_val2014.json"
TEST_IMAGES = "annotations/image_info_test2014.json"
NOCAPS_FILES = {"val": "nocaps_val_4500_captions.json", "test": "nocaps_test_image_info.json"}


def coco_samples(root: Path, split: str) -> list[Sample]:
    """The samples of COCO captioning's `train`, `val`, `test`, `val2014` or `test2014`.

    Raises:
        InputError: no annotations, or wrong ones.
    """
    if split == "test2014":
        return _listed_images(root / TEST_IMAGES, split, labelled=False, what="COCO's test2014 images")
    if split == "val2014":
        return _val2014(root)
    if split == "train" and shards.are_in(root, split):
        return _captions_of_shards(root)
    index, truth = root / f"coco_captioning.{split}.jsonl", root / f"coco_karpathy_{split}_gt.json"
    if (root / COCO_FILE).is_file():
        return _karpathy(root, split)
    if truth.is_file() and not index.is_file():
        return _referenced_images(truth)
    if not index.is_file():
        raise InputError(
            f"No COCO captions under {root}: neither {COCO_FILE} (Karpathy's split) nor {index.name}. Put one "
            f"there, or draw a practice set with `harness toy FOLDER`.{nearby(root, COCO_FILE, index.name)}"
        )
    if split == "train":
        return _indexed_captions(index)
    return _indexed_images(index, truth)


def nocaps_samples(root: Path, split: str) -> list[Sample]:
    """The samples of NoCaps' `train` (COCO's captions, image paths absolute), `val` or `test`.

    Raises:
        InputError: no annotations, or wrong ones.
    """
    if split == "train":
        return _coco_beside(root)
    file, index = root / NOCAPS_FILES[split], root / f"nocaps.{split}.jsonl"
    if file.is_file():
        return _listed_images(file, split, labelled=split == "val", what=f"NoCaps {split}")
    if not index.is_file():
        raise InputError(
            f"No NoCaps {split} images under {root}: neither {file.name} nor {index.name}. Put one there, or draw "
            "a practice set with `harness toy FOLDER`."
        )
    return _indexed_images(index, root / "nocaps_val_gt.json" if split == "val" else None)


def _captions_of_shards(root: Path) -> list[Sample]:
    samples = []
    for each in shards.read(root, "train"):
        name, where = f"{each.shard}/{each.key}", f"{root / each.shard}, sample {each.key}"
        place = each.place  # one text for all captions of an image
        for number, text in enumerate(_texts(each, where)):
            samples.append(_caption_sample(name, place, str(number), text, where=where))
    return samples


def _texts(sample: ShardSample, where: str) -> list[str]:
    """The captions of a sample of a shard."""
    if "txt" in sample.texts:
        return [sample.texts["txt"].strip()]
    with reading(where, "captions", fix="Write the shard again."):
        content = json.loads(sample.texts.get("json", "{}"))
        found = content.get("captions") or [content.get("caption")]
        if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
            raise sample.lacks("no caption (.txt, or caption or a list captions in .json)")
    return found


def _karpathy(root: Path, split: str) -> list[Sample]:
    where = str(root / COCO_FILE)
    images = read_coco(root, split)
    if split == "train":
        return [
            _caption_sample(image.id, image.path, sentence.id, sentence.text, where=where)
            for image in images
            for sentence in image.sentences
        ]
    return [
        _image_sample(image.id, image.path, [sentence.text for sentence in image.sentences], where=where)
        for image in images
    ]


def _val2014(root: Path) -> list[Sample]:
    file = root / VAL_CAPTIONS
    if not file.is_file():
        raise AbsentError(f"No captions of COCO's val2014: {file} is absent. Put it there to score this split.")
    return _referenced_images(file)


def _referenced_images(file: Path) -> list[Sample]:
    """Images of val2014 to describe, of a file in the form of COCO's caption annotations, in its order.

    Where its list of images is empty or absent, they are those that have captions.
    """
    content = read_json(file, what="reference captions")
    captions = _references(content, file=file)
    rows = content.get("images") or [{"id": image} for image in captions]
    where = str(file)
    ids = [str(field(row, "id", where=where)) for row in rows]
    return [
        _image_sample(image, _path_in_val2014(row), captions.get(image, ()), where=where)
        for image, row in zip(ids, rows, strict=True)
    ]


def _path_in_val2014(row: Mapping[str, Any]) -> str:
    """An image's path; Karpathy's val and test are of val2014 too, and their references leave the name out."""
    name = row.get("file_name", f"COCO_val2014_{row['id']:0>12}.jpg")
    return f"val2014/{name}"


def _coco_beside(root: Path) -> list[Sample]:
    """COCO's training captions, of the folder itself or of the folder coco beside it."""
    for folder in (root, root.parent / "coco"):
        files = (folder / name for name in (COCO_FILE, "coco_captioning.train.jsonl"))
        if any(file.is_file() for file in files) or shards.are_in(folder, "train"):
            return _with_absolute_paths(coco_samples(folder, "train"), folder)
    raise InputError(
        f"NoCaps fine-tunes on COCO's captions, and there are none: neither {root.parent / 'coco' / COCO_FILE} nor "
        f"{root / COCO_FILE}. Put COCO beside the NoCaps folder, or predict with weights that are fine-tuned already."
    )


def _with_absolute_paths(samples: Sequence[Sample], folder: Path) -> list[Sample]:
    paths: dict[str, str] = {}  # one text for all captions of an image
    return [
        sample._replace(
            inputs={**sample.inputs, "image": paths.setdefault(image := sample.inputs["image"], str(folder / image))}
        )
        for sample in samples
    ]


def _caption_sample(image: str, path: str, sentence: str, text: str | list[int], *, where: str) -> Sample:
    """One training caption."""
    if not text or (isinstance(text, str) and not text.strip()):
        raise InputError(f"{where}: caption {sentence} of image {image} is empty. Fix or remove it.")
    return Sample(f"{image}#{sentence}", {"image": path, "text": text}, None)


def _image_sample(image: str, path: str, captions: Sequence[str] | None, *, where: str, **facts: str) -> Sample:
    """One image to describe; captions: its references, None where they are not known."""
    if captions is None:
        return Sample(image, {"image": path}, None)
    if not captions:
        raise InputError(f"{where}: image {image} has no caption. Fix or remove it.")
    if any(not isinstance(caption, str) or not caption.strip() for caption in captions):
        raise InputError(f"{where}: image {image} has an empty caption. Fix or remove it.")
    return Sample(image, {"image": path}, {"captions": list(captions), **facts})


def _references(content: Any, *, file: Path) -> dict[str, list[str]]:
    """Captions by image id, of a file in the form of COCO's caption annotations."""
    captions: dict[str, list[str]] = {}
    for row in field(content, "annotations", where=str(file)):
        where = f"{file}, annotation {row.get('id', '?')}"
        captions.setdefault(str(field(row, "image_id", where=where)), []).append(field(row, "caption", where=where))
    return captions


def _listed_images(file: Path, folder: str, *, labelled: bool, what: str) -> list[Sample]:
    """Images to describe, of a file that lists them as COCO's annotations do; NoCaps' say the domain too.

    Args:
        folder: of the images, relative to the data folder.
        labelled: the file has references.
        what: the file in words, for messages.
    """
    content = read_json(file, what=what)
    captions = _references(content, file=file) if labelled else None
    samples = []
    where = str(file)
    for row in field(content, "images", where=where):
        image, path = str(field(row, "id", where=where)), f"{folder}/{field(row, 'file_name', where=where)}"
        own = None if captions is None else captions.get(image, ())
        facts = {"domain": row["domain"]} if "domain" in row else {}
        samples.append(_image_sample(image, path, own, where=where, **facts))
    return samples


def _indexed_captions(file: Path) -> list[Sample]:
    """Training captions of an official index file."""
    return [
        _caption_sample(
            str(field(row, "image_id", where=where)),
            field(row, "image_path", where=where),
            str(index),
            field(row, "text_segment", where=where),
            where=where,
        )
        for index, (where, row) in enumerate(read_lines(file, what="the official index of captions"))
    ]


def _indexed_images(file: Path, truth: Path | None) -> list[Sample]:
    """Images to describe, of an official index file, with the references of the file `truth` where it exists."""
    captions: Mapping[str, Sequence[str]] | None = None
    if truth is not None and truth.is_file():
        captions = _references(read_json(truth, what="reference captions"), file=truth)
    samples = []
    for where, row in read_lines(file, what="the official index of images"):
        image = str(field(row, "image_id", where=where))
        own = None if captions is None else captions.get(image, ())
        samples.append(_image_sample(image, field(row, "image_path", where=where), own, where=where))
    return samples
