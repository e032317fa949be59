"""The adapter that captioning benchmarks share: data sets, model, scores, results files."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbones.errors import InputError
from tasks.adapter import Finding, Pass, Progress, Sample, Submission, TaskAdapter, TaskContext
from tasks.captioning.metric_names import METRICS
from tasks.common.checking import check_splits, compared
from tasks.common.reading import field, read_json
from tasks.recipe import Recipe

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.data import Dataset

    from tasks.bootstrap import Measurement
    from tasks.captioning.metrics import Captions
    from tasks.captioning.model import Captioner


class Captioning(TaskAdapter):
    """A benchmark in which a model describes images.

    A training sample is one caption with its image; a sample to predict is an image, its id the image id (see
    `tasks.captioning.annotations`).
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

    def passes(self, recipe: Recipe) -> Sequence[Pass]:
        words = recipe.mask_probability * recipe.max_tokens
        return (Pass(image=True, text=recipe.max_tokens, words=words, kept=2),)  # the smoothed targets too

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
        """Missing Java tools: an error without Java, a remark where SPICE lacks its files."""
        from tasks.captioning import java, spice

        java.find()
        obstacle = spice.obstacle()
        return [f"there will be no SPICE score. {obstacle}."] if obstacle else []

    def score(
        self, predictions: Mapping[str, Mapping[str, Any]], samples: Sequence[Sample], *, labels: Any = None
    ) -> list[Measurement]:
        from tasks.captioning.metrics import measure

        return measure(self._captions(predictions, samples))

    def _captions(self, predictions: Mapping[str, Mapping[str, Any]], samples: Sequence[Sample]) -> Captions:
        """Predictions and references, tokenised."""
        from tasks.captioning.metrics import caption_of, tokenized

        without = [sample.id for sample in samples if not sample.annotation]
        if without:
            raise InputError(
                f"{len(without):,} of {len(samples):,} images have no reference captions, such as {without[0]}: the "
                f"index files of {self.name} hold none. Put the original annotations into the data folder."
            )
        candidates = [caption_of(predictions[sample.id], sample.id) for sample in samples]
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
        self,
        predictions: Mapping[str, Mapping[str, Any]],
        samples: Sequence[Sample],
        *,
        split: str,
        name: str,
        labels: Any = None,
    ) -> list[Submission]:
        from tasks.captioning.metrics import caption_of

        rows = [{"image_id": int(s.id), "caption": caption_of(predictions[s.id], s.id)} for s in samples]
        filename = f"{self._results_name(split)}_{name}_results.json"
        return [Submission(filename, json.dumps(rows, ensure_ascii=False).encode())]

    @abstractmethod
    def _results_name(self, split: str) -> str:
        """The beginning of the name of a split's results file."""

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
