"""What the captioning benchmarks share: recipes' fields, data sets, model, scores, results files."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbones.errors import InputError
from tasks.adapter import Finding, Progress, Sample, Submission, TaskAdapter, TaskContext
from tasks.captioning.metric_names import METRICS
from tasks.common.checking import check_splits, compared
from tasks.common.reading import field, read_json, read_lines
from tasks.recipe import Recipe

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.data import Dataset

    from tasks.bootstrap import Measurement
    from tasks.captioning.metrics import Captions
    from tasks.captioning.model import Captioner


@dataclass(frozen=True, kw_only=True)
class CaptioningRecipe(Recipe):
    """Training on masked words, and how captions are searched."""

    max_tokens: int = 32  # tokens in training, <s> and </s> counted
    mask_probability: float = 0.7
    label_smoothing: float = 0.1
    drop_worst: float = 0.2  # share of the masked tokens
    drop_worst_after: int = 12_000  # steps
    loss_group: int = 32  # samples whose masked tokens are averaged and cut together: a GPU's in the official training
    rand_augment: bool = True
    beams: int = 3
    length_penalty: float = 0.6
    caption_length: int = 64  # longest caption that is searched, in tokens

    ONLY_TRAINING = (
        *Recipe.ONLY_TRAINING, "max_tokens", "mask_probability", "label_smoothing", "drop_worst", "drop_worst_after",
        "loss_group", "rand_augment",
    )  # fmt: skip


class Captioning(TaskAdapter):
    """A benchmark in which a model describes images.

    A training sample is one caption with its image; a sample to predict is an image, its id the image id, its
    annotation {"captions": [references]}, or None where they are not public.
    """

    metrics = METRICS
    needs_text = True
    prediction_forms = (
        '.json: [{"image_id": 1, "caption": "…"}] or {"1": "…"}; .jsonl: {"id": "1", "caption": "…"} a line'
    )

    def source(self, sample: Sample) -> str:
        return sample.inputs["image"]

    def train_set(self, samples: Sequence[Sample], context: TaskContext) -> Dataset:
        from tasks.captioning.dataset import CaptionDataset
        from tasks.common.images import augmented
        from tasks.common.text import TextField

        recipe = context.recipe
        return CaptionDataset(
            samples,
            root=context.root,
            transform=augmented(recipe.image_size, rand_augment=recipe.rand_augment),
            text=TextField(tokenizer=context.tokenizer, length=recipe.max_tokens),
            mask_probability=recipe.mask_probability,
        )

    def eval_set(self, samples: Sequence[Sample], context: TaskContext) -> Dataset:
        from tasks.common.images import ImageDataset, square

        paths = [context.root / sample.inputs["image"] for sample in samples]
        return ImageDataset(paths, [{}] * len(paths), square(context.recipe.image_size))

    def model(self, backbone: nn.Module, context: TaskContext) -> Captioner:
        from tasks.captioning.beam_search import BeamSearch
        from tasks.captioning.model import Captioner, CaptioningLoss

        recipe = context.recipe
        return Captioner(
            backbone,
            mask=context.tokenizer.mask,
            detokenize=context.tokenizer.decode,
            loss=CaptioningLoss(
                smoothing=recipe.label_smoothing,
                drop_worst=recipe.drop_worst,
                drop_worst_after=recipe.drop_worst_after,
                group=recipe.loss_group,
            ),
            search=BeamSearch(
                beams=recipe.beams, length_penalty=recipe.length_penalty, max_length=recipe.caption_length
            ),
        )

    def scoring_obstacles(self) -> Sequence[str]:
        """The official tools are Java programs; SPICE needs files of its own besides."""
        from tasks.captioning import java, spice

        java.find()
        obstacle = spice.obstacle()
        return [f"there will be no SPICE score. {obstacle}."] if obstacle else []

    def score(self, predictions: Mapping[str, Mapping[str, Any]], samples: Sequence[Sample]) -> list[Measurement]:
        from tasks.captioning.metrics import measure

        return measure(self._captions(predictions, samples))

    def _captions(self, predictions: Mapping[str, Mapping[str, Any]], samples: Sequence[Sample]) -> Captions:
        """Predictions and references, tokenised."""
        from tasks.captioning.metrics import tokenized

        without = [sample.id for sample in samples if not sample.annotation]
        if without:
            raise InputError(
                f"{len(without):,} of {len(samples):,} images have no reference captions, such as {without[0]}: the "
                f"index files of {self.name} hold none. Put the original annotations into the data folder."
            )
        candidates = [_caption(predictions[sample.id], sample.id) for sample in samples]
        return tokenized(candidates, [sample.annotation["captions"] for sample in samples])

    def read_official(self, path: Path) -> list[dict[str, Any]]:
        """A COCO results file, [{"image_id": 1, "caption": "…"}], or a JSON object of captions by image id."""
        content = read_json(path, what="captions")
        if isinstance(content, dict):
            content = [{"image_id": image, "caption": caption} for image, caption in content.items()]
        if not isinstance(content, list):
            raise InputError(f'{path} is not a list of {{"image_id": …, "caption": "…"}}, as COCO results are.')
        return [
            {
                "id": str(field(row, "image_id", where=f"{path}, entry {number}")),
                "caption": field(row, "caption", where=f"{path}, entry {number}"),
            }
            for number, row in enumerate(content, 1)
        ]

    def submission(
        self, predictions: Mapping[str, Mapping[str, Any]], samples: Sequence[Sample], *, split: str, name: str
    ) -> list[Submission]:
        rows = [{"image_id": int(s.id), "caption": _caption(predictions[s.id], s.id)} for s in samples]
        filename = f"{self._results_name(split)}_{name}_results.json"
        return [Submission(filename, json.dumps(rows, ensure_ascii=False).encode())]

    @abstractmethod
    def _results_name(self, split: str) -> str:
        """How a results file of a split begins."""

    def check(self, root: Path, *, decode: bool, progress: Progress) -> list[Finding]:
        def describe(split: str, samples: Sequence[Sample]) -> str:
            official = self.splits[split].size
            if split != self.train_split:
                return compared(len(samples), "images to describe", official)
            images = {sample.inputs["image"] for sample in samples}
            return f"{compared(len(samples), 'captions', official)} of {len(images):,} images"

        return check_splits(
            self,
            root,
            describe=describe,
            images=lambda sample: [sample.inputs["image"]],
            decode=decode,
            progress=progress,
        )


def caption_sample(image: str, path: str, sentence: str, text: str | list[int], *, where: str) -> Sample:
    """One training caption."""
    if not text or (isinstance(text, str) and not text.strip()):
        raise InputError(f"{where}: caption {sentence} of image {image} is empty. Mend or remove it.")
    return Sample(f"{image}#{sentence}", {"image": path, "text": text}, None)


def image_sample(image: str, path: str, captions: Sequence[str] | None, *, where: str, **facts: str) -> Sample:
    """One image to describe; captions: its references, None where they are not known."""
    if captions is None:
        return Sample(image, {"image": path}, None)
    if not captions:
        raise InputError(f"{where}: image {image} has no caption. Mend or remove it.")
    if any(not isinstance(caption, str) or not caption.strip() for caption in captions):
        raise InputError(f"{where}: image {image} has an empty caption. Mend or remove it.")
    return Sample(image, {"image": path}, {"captions": list(captions), **facts})


def references(file: Path) -> dict[str, list[str]]:
    """Captions by image id, of a file in the form of COCO's caption annotations."""
    return _captions_by_image(read_json(file, what="reference captions"), file)


def _captions_by_image(content: Any, file: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in field(content, "annotations", where=str(file)):
        where = f"{file}, annotation {row.get('id', '?')}"
        found.setdefault(str(field(row, "image_id", where=where)), []).append(field(row, "caption", where=where))
    return found


def listed_images(file: Path, folder: str, captions: Mapping[str, Sequence[str]] | None, *, what: str) -> list[Sample]:
    """Images to describe, of a file that lists them as COCO's annotations do; NoCaps' say the domain too.

    Args:
        folder: of the images, relative to the data folder.
        captions: references by image id, None where they are not public.
        what: the file in words, for messages.
    """
    samples = []
    where = str(file)
    for row in field(read_json(file, what=what), "images", where=where):
        image, path = str(field(row, "id", where=where)), f"{folder}/{field(row, 'file_name', where=where)}"
        of_image = None if captions is None else captions.get(image, ())
        facts = {"domain": row["domain"]} if "domain" in row else {}
        samples.append(image_sample(image, path, of_image, where=where, **facts))
    return samples


def referenced_images(file: Path, path_of: Callable[[Any], str]) -> list[Sample]:
    """Images to describe, of a file in the form of COCO's caption annotations, in the order of its list of images.

    Where that list is empty or absent, they are those that have captions.

    Args:
        path_of: row of an image -> its path relative to the data folder.
    """
    content = read_json(file, what="reference captions")
    captions = _captions_by_image(content, file)
    rows = content.get("images") or [{"id": image} for image in captions]
    where = str(file)
    ids = [str(field(row, "id", where=where)) for row in rows]
    return [
        image_sample(image, path_of(row), captions.get(image, ()), where=where)
        for image, row in zip(ids, rows, strict=True)
    ]


def indexed_captions(file: Path) -> list[Sample]:
    """Training captions of an official index file."""
    return [
        caption_sample(
            str(field(row, "image_id", where=where)),
            field(row, "image_path", where=where),
            str(number),
            field(row, "text_segment", where=where),
            where=where,
        )
        for number, (where, row) in enumerate(read_lines(file, what="the official index of captions"))
    ]


def indexed_images(file: Path, captions: Mapping[str, Sequence[str]] | None) -> list[Sample]:
    """Images to describe, of an official index file, with references by image id where there are some."""
    samples = []
    for where, row in read_lines(file, what="the official index of images"):
        image = str(field(row, "image_id", where=where))
        of_image = None if captions is None else captions.get(image, ())
        samples.append(image_sample(image, field(row, "image_path", where=where), of_image, where=where))
    return samples


def _caption(record: Mapping[str, Any], image: str) -> str:
    caption = record.get("caption")
    if not isinstance(caption, str):
        raise InputError(
            f"The prediction of image {image} has no caption (found: {caption!r}). A record of this task is "
            '{"id": image id, "caption": "…"}; an empty text is a caption too.'
        )
    return caption
