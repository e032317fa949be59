"""Image-text retrieval with a dual encoder: what COCO and Flickr30K, fine-tuned and zero-shot, share."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from backbones.errors import InputError
from tasks.adapter import Finding, Metric, Progress, Sample, Split, TaskAdapter, TaskContext, chosen
from tasks.common.checking import compared, missing_images
from tasks.common.karpathy import CaptionedImage, Sentence
from tasks.common.reading import RESTORE, field, read_lines
from tasks.recipe import Recipe

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.data import Dataset

    from tasks.bootstrap import Measurement
    from tasks.common.packing import Packed
    from tasks.retrieval.model import DualEncoder

_KARPATHY = "Karpathy and Fei-Fei, arXiv 1412.2306, section 4.2: "
_TIES = ", of items that tie the expected share over their orders (McSherry and Najork, ECIR 2008)"
_TABLE_1 = "arXiv 2208.10442, Table 1: mean of i2t_R1 and t2i_R1"
_ALL_SIX = "mean of the six recalls, by which the official code (unilm beit3) selects models"


@dataclass(frozen=True, kw_only=True)
class RetrievalRecipe(Recipe):
    """Images are cropped to at least half their area and flipped, as in the official code; no RandAugment."""

    max_tokens: int = 64  # of a text, <s> and </s> included


class SplitSize(NamedTuple):
    """Official size of a split."""

    images: int
    captions: int

    @property
    def samples(self) -> int:
        return self.images + self.captions


def _recalls(direction: str, meaning: str) -> list[Metric]:
    return [
        Metric(
            name=f"{direction}_R{k}",
            unit="percent",
            source=f"{_KARPATHY}{meaning} among the first {k}{_TIES}",
            version=2,
        )
        for k in (1, 5, 10)
    ]


class Retrieval(TaskAdapter):
    """Recall at 1, 5 and 10 from image to text (i2t) and from text to image (t2i).

    A split's samples are its images ("image:ID", in the file's order), then their texts ("text:ID"): each is encoded
    once. Fine-tuning takes a pair per text.

    Layouts: Karpathy's json, whose ids are the image's (cocoid, imgid) and `sentid`; without it the official index
    files `<index>.{train,val,test}.jsonl`, which have neither: an image then goes by its path and a text by that and
    its place among the image's texts (`val2014/x.jpg#0`).

    Features made elsewhere are scored from an .npz file with the arrays `image_ids` [images], `image_features`
    [images, dim], `text_ids` [texts] and `text_features` [texts, dim], ids as in the annotations. The score of a pair
    is the dot product of the features as they are; where items tie, a query counts by its expected hit over their
    orders (see `tasks.retrieval.metrics`).
    """

    sizes: ClassVar[Mapping[str, SplitSize]]
    index: ClassVar[str]  # official index files are <index>.<split>.jsonl
    karpathy_file: ClassVar[str]

    metrics = (
        Metric(name="mean_R1", unit="percent", primary=True, source=_TABLE_1, version=2),
        *_recalls("i2t", "images with one of their captions"),
        *_recalls("t2i", "captions with their image"),
        Metric(name="mean_recall", unit="percent", source=_ALL_SIX, version=2),
    )
    eval_split = "test"
    validation_split = "val"
    record_bytes = 6_000  # a feature of 1,408 numbers
    prediction_forms = (
        ".npz: image_ids [images], image_features [images, dim], text_ids [texts], text_features [texts, dim]; "
        '.jsonl: {"id": "image:ID" or "text:ID", "feature": [numbers]} a line'
    )
    needs_text = True

    @abstractmethod
    def read_karpathy(self, root: Path, split: str) -> list[CaptionedImage]:
        """The images of a split from Karpathy's json."""

    def check(self, root: Path, *, decode: bool, progress: Progress) -> list[Finding]:
        findings = []
        for split in self.splits:
            try:
                images = self.captioned_images(root, split)
            except InputError as error:
                findings.append(Finding(False, str(error)))
                continue
            findings.append(Finding(True, f"{split}: {_counted(images, self.sizes[split])}"))
            findings += _check_captions(images, split)
            paths = [root / image.path for image in images]
            findings += missing_images(paths, split, decode=decode, progress=progress)
        return findings

    def captioned_images(self, root: Path, split: str) -> list[CaptionedImage]:
        """The images of a split with their captions, from whichever layout is there.

        Raises:
            InputError: neither is, or an annotation is wrong.
        """
        self.split(split)
        index = root / f"{self.index}.{split}.jsonl"
        if (root / self.karpathy_file).is_file():
            images = self.read_karpathy(root, split)
        elif index.is_file():
            images = _read_index(index, split)
        else:
            raise InputError(
                f"No {split} annotations in {root}: neither {self.karpathy_file} (the Karpathy split) nor {index.name} "
                "(an official index file). Put one of them there, or point --data at the folder that has it."
            )
        if not images:
            raise InputError(f"The annotations in {root} have no image in the split {split}. {RESTORE}")
        return images

    def samples(self, root: Path, split: str) -> Packed:
        from tasks.common.packing import Packed

        images = self.captioned_images(root, split)
        for finding in _check_captions(images, split):
            raise InputError(finding.text)
        pictures = (
            Sample(_image_id(image), {"image": image.path}, {"texts": [_text_id(s) for s in image.sentences]})
            for image in images
        )
        texts = (
            Sample(_text_id(sentence), {"text": sentence.text}, {"image": _image_id(image)})
            for image in images
            for sentence in image.sentences
        )
        return Packed.of(chain(pictures, texts))

    def limited(self, samples: Sequence[Sample], limit: int) -> Sequence[Sample]:
        """`limit` images evenly spaced, with all their texts."""
        images, _ = _places(samples)
        images = super().limited(images, min(limit, len(images)))
        kept = {samples[place].id for place in images}
        texts = [
            place
            for place, sample in enumerate(samples)
            if "text" in sample.inputs and sample.annotation["image"] in kept
        ]
        return chosen(samples, [*images, *texts])

    def subset(self, samples: Sequence[Sample], ids: Collection[str]) -> Sequence[Sample]:
        """An image needs one of its texts at least, and a text its image."""
        found = super().subset(samples, ids)
        images, texts = _sides(found)
        owners = {text.annotation["image"] for text in texts}
        names = {image.id for image in images}
        if alone := sorted(owners ^ names):
            raise InputError(
                f"{len(alone):,} images are predicted without a text of theirs, or texts without their image, such as "
                f"of {alone[0]}. Recall takes both: predict them too, or leave these out."
            )
        return found

    def taught(self, samples: Sequence[Sample]) -> int:
        return sum("text" in sample.inputs for sample in samples)

    def train_set(self, samples: Sequence[Sample], context: TaskContext) -> Dataset:
        from tasks.common.images import augmented
        from tasks.retrieval.dataset import pairs

        return _items(pairs(samples), context, augmented(context.recipe.image_size, rand_augment=False))

    def eval_set(self, samples: Sequence[Sample], context: TaskContext) -> Dataset:
        from tasks.common.images import square

        return _items(samples, context, square(context.recipe.image_size))

    def model(self, backbone: nn.Module, context: TaskContext) -> DualEncoder:
        from tasks.retrieval.model import DualEncoder

        return DualEncoder(backbone)

    def score(self, predictions: Mapping[str, Mapping[str, Any]], samples: Sequence[Sample]) -> list[Measurement]:
        import numpy as np

        from tasks.retrieval.features import stacked
        from tasks.retrieval.metrics import measurements, ranks

        images, texts = _sides(samples)
        features = stacked(predictions, [sample.id for sample in (*images, *texts)])
        sides = features[: len(images)], features[len(images) :]
        for side, what in zip(sides, ("image", "text"), strict=True):
            if len(images) > 1 and (side == side[0]).all():
                raise InputError(
                    f"All {len(side):,} {what} features are the same: everything ties and nothing is ranked. The "
                    "training has collapsed, or the features were written wrongly. Train with a lower --set lr=…, or "
                    "mend the file."
                )
        row = {image.id: number for number, image in enumerate(images)}
        owner = np.array([row[text.annotation["image"]] for text in texts])
        return measurements(ranks(*sides, owner), owner)

    def read_official(self, path: Path) -> list[dict[str, Any]]:
        """Records of an .npz file of features; see the class."""
        from tasks.retrieval.features import read_npz

        return read_npz(path) if path.suffix == ".npz" else super().read_official(path)


def splits_of(sizes: Mapping[str, SplitSize]) -> dict[str, Split]:
    """Splits from their official sizes; a split's samples are its images and its captions."""
    return {name: Split(size=count.samples) for name, count in sizes.items()}


def _image_id(image: CaptionedImage) -> str:
    return f"image:{image.id}"


def _text_id(sentence: Sentence) -> str:
    return f"text:{sentence.id}"


def _places(samples: Sequence[Sample]) -> tuple[list[int], list[int]]:
    """Where the images and the texts are among samples."""
    places: tuple[list[int], list[int]] = ([], [])
    for place, sample in enumerate(samples):
        places["image" not in sample.inputs].append(place)
    return places


def _sides(samples: Sequence[Sample]) -> tuple[Sequence[Sample], Sequence[Sample]]:
    """The images and the texts among samples."""
    images, texts = _places(samples)
    return chosen(samples, images), chosen(samples, texts)


def _items(samples: Sequence[Sample], context: TaskContext, transform: Callable) -> Dataset:
    from tasks.common.text import TextField
    from tasks.retrieval.dataset import RetrievalDataset

    text = TextField(tokenizer=context.tokenizer, length=context.recipe.max_tokens)
    return RetrievalDataset(samples, root=context.root, transform=transform, text=text)


def _read_index(path: Path, split: str) -> list[CaptionedImage]:
    """Images of an official index file: a row per caption, `image_id` the same for all rows of an image."""
    images: dict[int, CaptionedImage] = {}
    for where, row in read_lines(path, what="an official index file"):
        number, text = field(row, "image_id", where=where), field(row, "text_segment", where=where)
        name = str(field(row, "image_path", where=where)).lstrip("/")
        if not isinstance(text, list) or not all(isinstance(token, int) for token in text):
            raise InputError(
                f"{where}: text_segment is {str(text)[:60]!r}, no list of token ids. Make the index again."
            )
        if not isinstance(number, int):
            raise InputError(f"{where}: image_id is {str(number)[:60]!r}, no number. Make the index again.")
        image = images.setdefault(number, CaptionedImage(name, name, split, []))
        if image.path != name:
            raise InputError(
                f"{where}: image_id {number} is {name} here and {image.path} before. Make the index again."
            )
        image.sentences.append(Sentence(f"{name}#{len(image.sentences)}", text))
    doubled = [name for name, count in Counter(image.path for image in images.values()).items() if count > 1]
    if doubled:
        raise InputError(f"{path}: {doubled[0]} has more than one image_id. Make the index again.")
    return list(images.values())


def _counted(images: Sequence[CaptionedImage], official: SplitSize) -> str:
    captions = [len(image.sentences) for image in images]
    counts = compared(len(images), "images", official.images), compared(sum(captions), "captions", official.captions)
    low, high = min(captions), max(captions)
    return f"{', '.join(counts)}, {low if low == high else f'{low} to {high}'} captions an image"


def _check_captions(images: Sequence[CaptionedImage], split: str) -> list[Finding]:
    bare = [image for image in images if not image.sentences]
    empty = [
        f"{sentence.id} of image {image.id} ({image.path})"
        for image in images
        for sentence in image.sentences
        if not (sentence.text.strip() if isinstance(sentence.text, str) else sentence.text)
    ]
    mend = "Mend the annotations, or remove it from them."
    findings = []
    if bare:
        text = f"{split}: {len(bare):,} images without a caption, such as {bare[0].id} ({bare[0].path}). {mend}"
        findings.append(Finding(False, text))
    if empty:
        findings.append(Finding(False, f"{split}: {len(empty):,} empty captions, such as sentence {empty[0]}. {mend}"))
    return findings
