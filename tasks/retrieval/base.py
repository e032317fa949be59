"""The adapter of image-text retrieval that COCO and Flickr30K, fine-tuned and zero-shot, share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from backbones.errors import InputError
from tasks.adapter import Finding, Metric, Pass, Progress, Sample, Split, TaskAdapter, TaskContext, chosen
from tasks.common.checking import compared, missing_images
from tasks.common.karpathy import CaptionedImage
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
    files `<index>.{train,val,test}.jsonl`, which have neither: an image is then identified by its path and a text by
    that and its index among the image's texts (`val2014/x.jpg#0`).

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
    pretraining = "contrastive"

    @abstractmethod
    def read_karpathy(self, root: Path, split: str) -> Sequence[CaptionedImage]:
        """The images of a split from Karpathy's json."""

    def check(self, root: Path, *, decode: bool, progress: Progress) -> list[Finding]:
        from tasks.retrieval.annotations import caption_problems

        findings = []
        for split in self.splits:
            try:
                images = self.captioned_images(root, split)
            except InputError as error:
                findings.append(Finding(False, str(error)))
                continue
            findings.append(Finding(True, f"{split}: {_counted(images, self.sizes[split])}"))
            findings += [Finding(False, problem) for problem in caption_problems(images, split)]
            paths = [root / image.path for image in images]
            findings += missing_images(paths, split, decode=decode, progress=progress)
        return findings

    def captioned_images(self, root: Path, split: str) -> Sequence[CaptionedImage]:
        """The images of a split with their captions, from whichever layout is there.

        Raises:
            InputError: neither is, or an annotation is wrong.
        """
        from tasks.retrieval.annotations import captioned_images

        self.split(split)
        return captioned_images(
            root, split, karpathy_file=self.karpathy_file, read_karpathy=self.read_karpathy, index=self.index
        )

    def samples(self, root: Path, split: str) -> Packed:
        from tasks.retrieval.annotations import to_samples

        return to_samples(self.captioned_images(root, split), split)

    def limited(self, samples: Sequence[Sample], limit: int) -> Sequence[Sample]:
        """`limit` images evenly spaced, with all their texts."""
        images, texts = _indices(samples)
        images = super().limited(images, min(limit, len(images)))
        kept = {samples[index].id for index in images}
        return chosen(samples, [*images, *(index for index in texts if samples[index].annotation["image"] in kept)])

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

        return _dataset(pairs(samples), context, augmented(context.recipe.image_size, rand_augment=False))

    def eval_set(self, samples: Sequence[Sample], context: TaskContext) -> Dataset:
        from tasks.common.images import square

        return _dataset(samples, context, square(context.recipe.image_size))

    def passes(self, recipe: Recipe) -> Sequence[Pass]:
        return Pass(image=True), Pass(text=recipe.max_tokens)

    def model(self, backbone: nn.Module, context: TaskContext) -> DualEncoder:
        from tasks.retrieval.model import DualEncoder

        return DualEncoder(backbone)

    def score(
        self, predictions: Mapping[str, Mapping[str, Any]], samples: Sequence[Sample], *, labels: Any = None
    ) -> list[Measurement]:
        import numpy as np

        from tasks.retrieval.features import stacked
        from tasks.retrieval.metrics import measure, ranks

        images, texts = _sides(samples)
        features = stacked(predictions, [sample.id for sample in (*images, *texts)])
        sides = features[: len(images)], features[len(images) :]
        for side, what in zip(sides, ("image", "text"), strict=True):
            if len(images) > 1 and (side == side[0]).all():
                raise InputError(
                    f"All {len(side):,} {what} features are the same: everything ties and nothing is ranked. The "
                    "training has collapsed, or the features were written wrongly. Train with a lower --set lr=…, or "
                    "fix the file."
                )
        row = {image.id: number for number, image in enumerate(images)}
        owner = np.array([row[text.annotation["image"]] for text in texts])
        return measure(ranks(*sides, owner), owner)

    def read_official(self, path: Path) -> list[dict[str, Any]]:
        """Records of an .npz file of features; see the class."""
        from tasks.retrieval.features import read_npz

        return read_npz(path) if path.suffix == ".npz" else super().read_official(path)


def splits_of(sizes: Mapping[str, SplitSize]) -> dict[str, Split]:
    """Splits from their official sizes; a split's samples are its images and its captions."""
    return {name: Split(size=count.samples) for name, count in sizes.items()}


def _indices(samples: Sequence[Sample]) -> tuple[list[int], list[int]]:
    """Indices of the images and of the texts among samples."""
    indices: tuple[list[int], list[int]] = ([], [])
    for index, sample in enumerate(samples):
        indices["image" not in sample.inputs].append(index)
    return indices


def _sides(samples: Sequence[Sample]) -> tuple[Sequence[Sample], Sequence[Sample]]:
    """The images and the texts among samples."""
    images, texts = _indices(samples)
    return chosen(samples, images), chosen(samples, texts)


def _dataset(samples: Sequence[Sample], context: TaskContext, transform: Callable) -> Dataset:
    from tasks.common.text import TextField
    from tasks.retrieval.dataset import RetrievalDataset

    text = TextField(tokenizer=context.tokenizer, length=context.recipe.max_tokens)
    return RetrievalDataset(samples, root=context.root, transform=transform, text=text)


def _counted(images: Sequence[CaptionedImage], official: SplitSize) -> str:
    captions = [len(image.sentences) for image in images]
    counts = compared(len(images), "images", official.images), compared(sum(captions), "captions", official.captions)
    low, high = min(captions), max(captions)
    return f"{', '.join(counts)}, {low if low == high else f'{low} to {high}'} captions an image"
