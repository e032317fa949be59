"""Images with their captions on disk, and as samples of retrieval.

dataset_coco.json, dataset_flickr30k.json      Karpathy's split, see `tasks.common.karpathy`
coco_retrieval.test.jsonl, flickr30k.test.jsonl   index files of the BEiT-3 code, also train and val: a line per caption
                                               {"image_path", "text_segment": [token ids], "image_id"}
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from backbones.errors import InputError
from tasks.adapter import Sample
from tasks.common.karpathy import CaptionedImage, Sentence
from tasks.common.nearby import nearby
from tasks.common.packing import Packed
from tasks.common.reading import RESTORE, field, read_lines, repeated

ReadKarpathy = Callable[[Path, str], Sequence[CaptionedImage]]  # of a data folder and a split


def captioned_images(
    root: Path, split: str, *, karpathy_file: str, read_karpathy: ReadKarpathy, index: str
) -> Sequence[CaptionedImage]:
    """The images of a split with their captions; Karpathy's json wins over the index file.

    Args:
        index: index files are <index>.<split>.jsonl.

    Raises:
        InputError: neither file is there, or an annotation is wrong.
    """
    index_file = root / f"{index}.{split}.jsonl"
    if (root / karpathy_file).is_file():
        images = read_karpathy(root, split)
    elif index_file.is_file():
        images = _read_index(index_file, split)
    else:
        raise InputError(
            f"No {split} annotations in {root}: neither {karpathy_file} (the Karpathy split) nor {index_file.name} "
            "(an official index file). Put one of them there, or point --data at the folder that has it."
            + nearby(root, karpathy_file, index_file.name)
        )
    if not images:
        raise InputError(f"The annotations in {root} have no image in the split {split}. {RESTORE}")
    return images


def to_samples(images: Sequence[CaptionedImage], split: str) -> Packed:
    """The images ("image:ID"), then their texts ("text:ID").

    inputs: {"image": path} or {"text": caption, or token ids of an index file}.
    annotation: of an image {"texts": [ids]}, of a text {"image": id}.

    Raises:
        InputError: an image without a caption, or an empty one.
    """
    for problem in caption_problems(images, split):
        raise InputError(problem)
    of_images = (
        Sample(_image_id(image), {"image": image.path}, {"texts": [_text_id(each) for each in image.sentences]})
        for image in images
    )
    of_texts = (
        Sample(_text_id(sentence), {"text": sentence.text}, {"image": _image_id(image)})
        for image in images
        for sentence in image.sentences
    )
    return Packed.of(chain(of_images, of_texts))


def caption_problems(images: Sequence[CaptionedImage], split: str) -> Iterator[str]:
    """Faults of a split's captions, a paragraph for each kind."""
    bare = [image for image in images if not image.sentences]
    empty = [
        f"{sentence.id} of image {image.id} ({image.path})"
        for image in images
        for sentence in image.sentences
        if not (sentence.text.strip() if isinstance(sentence.text, str) else sentence.text)
    ]
    fix = "Fix the annotations, or remove it from them."
    if bare:
        yield f"{split}: {len(bare):,} images without a caption, such as {bare[0].id} ({bare[0].path}). {fix}"
    if empty:
        yield f"{split}: {len(empty):,} empty captions, such as sentence {empty[0]}. {fix}"


def _image_id(image: CaptionedImage) -> str:
    return f"image:{image.id}"


def _text_id(sentence: Sentence) -> str:
    return f"text:{sentence.id}"


def _read_index(path: Path, split: str) -> list[CaptionedImage]:
    """Images of an official index file: a row per caption, `image_id` the same for all rows of an image."""
    images: dict[int, CaptionedImage] = {}
    for where, row in read_lines(path, what="an official index file"):
        number, text = field(row, "image_id", where=where), field(row, "text_segment", where=where)
        name = str(field(row, "image_path", where=where)).lstrip("/")
        if not isinstance(text, list) or not all(isinstance(token, int) for token in text):
            raise InputError(
                f"{where}: text_segment is {str(text)[:60]!r}, not a list of token ids. Make the index again."
            )
        if not isinstance(number, int):
            raise InputError(f"{where}: image_id is {str(number)[:60]!r}, not a number. Make the index again.")
        image = images.setdefault(number, CaptionedImage(name, name, split, []))
        if image.path != name:
            raise InputError(
                f"{where}: image_id {number} is {name} here and {image.path} before. Make the index again."
            )
        image.sentences.append(Sentence(f"{name}#{len(image.sentences)}", text))
    if duplicates := repeated(image.path for image in images.values()):
        raise InputError(f"{path}: {duplicates[0]} has more than one image_id. Make the index again.")
    return list(images.values())
