"""NLVR2: whether a sentence about two photographs is true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbones.errors import InputError
from tasks.adapter import Finding, Metric, Pass, Progress, Sample, Split, Submission, TaskAdapter, TaskContext
from tasks.common.checking import check_splits, compared
from tasks.reasoning.annotations import LABELS, read_samples, sentence_of
from tasks.reasoning.recipes import RECIPES
from tasks.recipe import Recipe

if TYPE_CHECKING:
    from torch.utils.data import Dataset

    from tasks.bootstrap import Measurement
    from tasks.reasoning.model import Reasoner


class NLVR2(TaskAdapter):
    """Accuracy, and consistency: the share of sentences that are right about each of their image pairs.

    Layouts: the official annotations `nlvr/nlvr2/data/{train,dev,test1,test2}.json` (a clone of lil-lab/nlvr), or the
    official index files `nlvr2.{train,dev,test-P}.index.jsonl`, which are used where an annotation file is absent.
    The split test-U, unreleased until 2022, is test2.json.
    Images: `images/train/<directory>/<pair>-img0.png`, `dev/<pair>-img0.png`, `test1/<pair>-img0.png` (`test2/…`) and
    `-img1.png`. A sample's id is its identifier, such as dev-850-0-1: split, set of images, pair, sentence.
    """

    name = "nlvr2"
    dataset = "NLVR2"
    citation = "Suhr et al., A Corpus for Reasoning About Natural Language Grounded in Photographs, ACL 2019"
    splits: Mapping[str, Split] = {
        "train": Split(size=86_373),
        "dev": Split(size=6_982),
        "test-P": Split(size=6_967),
        "test-U": Split(size=6_970, optional=True),
    }
    metrics = (
        Metric(name="accuracy", unit="percent", primary=True, source="lil-lab/nlvr nlvr2/eval/metrics.py"),
        Metric(name="consistency", unit="percent", source="lil-lab/nlvr nlvr2/eval/metrics.py"),
    )
    recipes = RECIPES
    folder = "nlvr2"
    eval_split = "dev"
    prediction_forms = '.csv: identifier,True or identifier,False a line; .jsonl: {"id": identifier, "label": 1} a line'
    needs_text = True

    def check(self, root: Path, *, decode: bool, progress: Progress) -> list[Finding]:
        def describe(split: str, samples: Sequence[Sample]) -> str:
            statements = compared(len(samples), "statements", self.splits[split].size)
            return f"{statements}, {len({sentence_of(sample.id) for sample in samples}):,} sentences"

        return check_splits(
            self,
            root,
            describe=describe,
            images=lambda sample: sample.inputs["images"],
            decode=decode,
            progress=progress,
        )

    def samples(self, root: Path, split: str) -> list[Sample]:
        self.split(split)
        return read_samples(root, split)

    def train_set(self, samples: Sequence[Sample], context: TaskContext) -> Dataset:
        from tasks.common.images import augmented

        recipe = context.recipe
        transform = augmented(recipe.image_size, rand_augment=recipe.rand_augment)
        return self._dataset(samples, context, transform=transform)

    def eval_set(self, samples: Sequence[Sample], context: TaskContext) -> Dataset:
        from tasks.common.images import square

        return self._dataset(
            samples, context, transform=square(context.recipe.image_size), remembered=8
        )  # four pairs of images share a sentence

    def _dataset(self, samples: Sequence[Sample], context: TaskContext, **options: Any) -> Dataset:
        from tasks.common.text import TextField
        from tasks.reasoning.dataset import NLVR2Dataset

        text = TextField(tokenizer=context.tokenizer, length=context.recipe.max_tokens)
        return NLVR2Dataset(samples, root=context.root, text=text, **options)

    def passes(self, recipe: Recipe) -> Sequence[Pass]:
        return (Pass(image=True, text=recipe.max_tokens),) * 2

    def model(self, backbone: Any, context: TaskContext) -> Reasoner:
        from tasks.reasoning.model import Reasoner

        return Reasoner(backbone)

    def score(
        self, predictions: Mapping[str, Mapping[str, Any]], samples: Sequence[Sample], *, labels: Any = None
    ) -> list[Measurement]:
        from tasks.reasoning.metrics import measure

        return measure(predictions, samples)

    def read_official(self, path: Path) -> list[dict[str, Any]]:
        """A csv of `identifier,True` or `identifier,False` lines, as the official script reads."""
        from tasks.common.reading import read_text

        records = []
        for number, line in enumerate(read_text(path, what="NLVR2 predictions").splitlines(), 1):
            if not line.strip():
                continue
            identifier, _, label = line.partition(",")
            if label.strip().capitalize() not in LABELS:
                raise InputError(
                    f"{path}, line {number} is not of the form identifier,True or identifier,False: {line!r}."
                )
            records.append({"id": identifier.strip(), "label": LABELS[label.strip().capitalize()]})
        return records

    def submission(
        self,
        predictions: Mapping[str, Mapping[str, Any]],
        samples: Sequence[Sample],
        *,
        split: str,
        name: str,
        labels: Any = None,
    ) -> list[Submission]:
        from tasks.reasoning.metrics import label_of

        words = {label: word for word, label in LABELS.items()}
        lines = [f"{sample.id},{words[label_of(predictions[sample.id], sample.id)]}\n" for sample in samples]
        return [Submission(f"nlvr2_{split}_{name}.csv", "".join(lines).encode())]
