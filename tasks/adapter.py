"""The contract between a benchmark and the engine.

An adapter says everything about one benchmark: its data on disk, its model, its scores, its recipes. The engine
knows no benchmark; it moves samples through the stages

    samples -> fine-tune -> predictions on disk -> score -> rows

and each stage reads only what the one before it wrote. A prediction is one JSON record per sample id; a numpy
array in a record is stored beside the records (one append-only binary file, of which the record keeps the offset)
and comes back as an array. Records are appended batch by batch and synced to disk, so a killed run goes on with
the ids that are missing; the ids of a split are its manifest, and scoring refuses a set in which one is missing,
duplicate or unknown.

How each kind of benchmark goes through the contract (`unit` is what the bootstrap resamples):

    imagenet             sample id   image path
                         record      top: [5 class ids, best first], probability: [5]
                         score       hit in 1, hit in 5 -> means                         unit: image
                         submission  none, the truth is public
    coco_detection       sample id   image id
                         record      boxes f4 [n, 4] (x, y, width, height), scores f4 [n], labels i4 [n]
                                     (category ids) as arrays, masks: [n RLE]
                         score       matches at ten IoUs with scores, areas, crowds
                                     -> precision over the weighted, sorted matches      unit: image
                         submission  two zips with a results json, boxes and masks
    ade20k               sample id   image name
                         record      png: u1 [bytes] (array), the map as a PNG file, 1 + class
                         score       intersection and union per class
                                     -> ratios of sums, mean over classes                unit: image
                         submission  zip of PNG maps
    coco_captioning,     sample id   image id
    nocaps               record      caption: text
                         score       CIDEr, ROUGE-L, SPICE -> means; BLEU and METEOR counts
                                     -> formulas of their sums                           unit: image
                         submission  results json
    *_retrieval,         sample id   image:ID or text:ID
    *_zero_shot          record      feature f4 [dim] (array)
                         score       rank of the first right match -> hits at 1, 5, 10   unit: image with its texts
                         submission  none
    vqav2                sample id   question id
                         record      answer: text, score: its probability
                         score       leave-one-out accuracy -> means, by answer type     unit: image
                         submission  json of {question_id, answer}
    nlvr2                sample id   identifier
                         record      label: 0 or 1, margin: number
                         score       hit -> mean; every hit of a sentence -> consistency unit: sentence
                         submission  csv of identifier, prediction

All of it reduces to this: a score keeps one row of statistics per unit, and a metric is a function of how often
each unit counts (`tasks.bootstrap.Measurement`). Counting each once gives the metric; counting each as often as a
bootstrap draw has it gives the interval, with no second look at the predictions. Several samples may share a unit
(five questions on one image), since they are not independent.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, TypedDict

from backbones.bundled import Stage
from backbones.errors import UsageError, unknown
from tasks.common.shards import file_of
from tasks.recipe import Recipe

if TYPE_CHECKING:
    from mmengine.model import BaseModel
    from PIL.Image import Image
    from torch import nn
    from torch.utils.data import Dataset

    from backbones.tokenizer import Tokenizer
    from tasks.bootstrap import Measurement

Progress = Callable[[Iterable, str], Iterable]  # wraps an iterable in a progress bar with a title


EVALAI_MAX_BYTES = 500_000_000  # Cloud-CV/EvalAI pull request 1310
CODALAB_MAX_BYTES = 300_000_000  # unless a competition asked for more; codalab/codalab-competitions issue 3394


@dataclass(frozen=True, kw_only=True)
class Split:
    """One part of a data set."""

    size: int | None = None  # official number of samples, None when there is no official one
    labels: bool = True  # whether the truth is public
    server: str = ""  # who scores it when it is not
    within: str = ""  # the split that has all its samples, so that predictions of that one serve for both
    largest_file: int | None = None  # bytes that the server takes
    optional: bool = False  # a data folder is complete without it, or without its images


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One number of a task, as its field defines it."""

    name: str
    unit: Literal["percent", "points"]
    source: str  # where the definition is from
    primary: bool = False
    higher_is_better: bool = True
    version: int = 1  # goes up when the same predictions would score differently


class Inputs(TypedDict, total=False):
    """Inputs of a sample, of which each task has some. Paths are relative to the data folder, or absolute."""

    image: str
    images: Sequence[str]
    text: str | Sequence[int]  # as written, or the token ids of an official index file
    map: str  # label map of a segmentation
    width: int  # pixels
    height: int


class Sample(NamedTuple):
    """One sample of a split, known without opening its image."""

    id: str
    inputs: Inputs | str  # a text is the path of the only image
    annotation: Mapping[str, Any] | None  # JSON-able truth, in the form that the kind's `annotations` module documents


class Pass(NamedTuple):
    """A training sample's way through the backbone, for forecasts of memory."""

    image: bool = False
    text: int = 0  # tokens
    words: float = 0.0  # tokens that a head predicts from the whole vocabulary
    logits: float = 0.0  # numbers that other heads predict, where they are many
    kept: int = 1  # how often a loss keeps the predicted numbers


def chosen(samples: Sequence[Sample], which: Sequence[int]) -> Sequence[Sample]:
    """Select samples, in the order that is asked for; compact ones (`tasks.common.packing`) stay so."""
    return samples.chosen(which) if hasattr(samples, "chosen") else [samples[index] for index in which]


class Submission(NamedTuple):
    """A file for a test server."""

    filename: str
    content: bytes


@dataclass(frozen=True, kw_only=True)
class TaskContext:
    """Inputs of data sets and models, besides samples and a backbone."""

    root: Path  # the task's own data folder
    recipe: Recipe
    tokenizer: Tokenizer | None = None  # given to recipes that read text
    labels: Any = None  # what `TaskAdapter.labels` read


class Finding(NamedTuple):
    """One thing that `check` has to say about a data folder."""

    ok: bool
    text: str  # what is there, or what is wrong and how to fix it
    absent: bool = False  # nothing is there, and nothing is wrong with that


class TaskAdapter(ABC):
    """One benchmark. Subclasses are stateless: everything depends on the arguments."""

    name: ClassVar[str]
    dataset: ClassVar[str]
    citation: ClassVar[str]
    splits: ClassVar[Mapping[str, Split]]
    metrics: ClassVar[Sequence[Metric]]
    recipes: ClassVar[Mapping[str, Recipe]]  # by backbone family: nano, base, large, giant
    folder: ClassVar[str]  # the data's usual folder name; a data root may be this folder or hold it
    train_split: ClassVar[str] = "train"
    eval_split: ClassVar[str] = "val"
    validation_split: ClassVar[str | None] = None  # scored during training; None: the evaluation split
    pretraining: ClassVar[Stage] = "masked"  # stage whose bundled weights the task begins with
    needs_text: ClassVar[bool] = False  # such tasks take Multiway backbones only
    record_bytes: ClassVar[int] = 500  # of one predicted record on the disk, generously
    pictures: ClassVar[bool] = False  # whether there is a `picture` of a prediction
    prediction_forms: ClassVar[str] = ".jsonl of `harness predict`"  # what `harness score` reads, in one line

    @abstractmethod
    def check(self, root: Path, *, decode: bool, progress: Progress) -> list[Finding]:
        """Findings about the data folder: what is there, missing or wrong; `decode` opens every image too."""

    @abstractmethod
    def samples(self, root: Path, split: str) -> Sequence[Sample]:
        """The samples of a split in a fixed order, without opening images.

        A list, or for millions of samples a sequence that makes each when it is asked for (`tasks.common.packing`). One
        process of each node calls it, and the others get what it returns.

        Raises:
            InputError: the folder or an annotation is missing or wrong.
        """

    def labels(self, root: Path) -> Any:
        """Labels of the outputs, such as class names or answers; None where data files do not say.

        Read once per run, by one process, and handed to what needs them: models and data sets (`TaskContext.labels`),
        scores, submissions and pictures. Small, and picklable.
        """
        return None

    @abstractmethod
    def train_set(self, samples: Sequence[Sample], context: TaskContext) -> Dataset:
        """Augmented items, each a dict that the model takes as keywords after collation.

        A data set with a `collate` method is collated by it, else by torch's default.
        """

    @abstractmethod
    def eval_set(self, samples: Sequence[Sample], context: TaskContext) -> Dataset:
        """The same without augmentation, in the order of `samples`."""

    @abstractmethod
    def model(self, backbone: nn.Module, context: TaskContext) -> BaseModel:
        """Backbone (as `beit3`) and head.

        `mode="loss"` returns losses, means over the samples of a micro-batch, which are averaged over a step;
        `mode="predict"` one record per sample of the batch, in order. An attribute `step` of the model is set to the
        number of the optimizer step (from 0) before each loss. A loss that is not such a mean, as it compares the
        samples of a step, implements `tasks.common.step_loss.StepLoss`, so that it does not depend on how a batch
        is split; a task whose loss depends on it all the same says so in its recipe (`Recipe.split_alters`).
        """

    @abstractmethod
    def score(
        self, predictions: Mapping[str, Mapping[str, Any]], samples: Sequence[Sample], *, labels: Any = None
    ) -> list[Measurement]:
        """Every metric that the annotations allow, from one prediction per sample. Pure.

        Args:
            labels: those of the data folder, see `labels`.

        Raises:
            InputError: a record that is not of the task's form; the message names the sample.
        """

    def reads_text(self, recipe: Recipe) -> bool:
        """True where a recipe needs the tokenizer; such a recipe takes Multiway backbones only."""
        return self.needs_text

    def begins_with(self, recipe: Recipe) -> Stage:
        """The stage of pretraining whose bundled weights a recipe begins with."""
        return self.pretraining

    def backbone_options(self, recipe: Recipe, *, layers: int) -> dict[str, Any]:
        """Fields of `MultiwayConfig` that the task sets, besides image size and drop path, for so many layers."""
        return {}

    def require_backbone(self, backbone: nn.Module, recipe: Recipe) -> None:  # noqa: B027  most tasks take any
        """Check that the recipe's model can be made on a backbone. Asked before data and weights are read.

        Args:
            backbone: a `backbones.skeleton` with the recipe's options.

        Raises:
            UsageError: it cannot; the message has the way out.
        """

    def scoring_obstacles(self) -> Sequence[str]:
        """Parts of a score that cannot be computed here, a sentence each. Asked before a run starts.

        Raises:
            InputError: nothing can be scored here; the message says what to install.
        """
        return ()

    def read_official(self, path: Path) -> list[dict[str, Any]]:
        """Records, each with its "id", of a predictions file in the form of the benchmark's own tools.

        Raises:
            InputError: not a file of that form.
            UsageError: the benchmark has no such form.
        """
        raise UsageError(f"{path} is not a .jsonl file.")

    def empty_record(self, records: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
        """Record for a sample missing from an official results file, or None if none may be missing.

        For forms that list what was found in an image, and say nothing of images in which that is nothing.

        Args:
            records: those of `read_official`.
        """
        return None

    def submission(
        self,
        predictions: Mapping[str, Mapping[str, Any]],
        samples: Sequence[Sample],
        *,
        split: str,
        name: str,
        labels: Any = None,
    ) -> list[Submission]:
        """The files that the split's server takes, from one prediction per sample.

        Args:
            name: of the method, where the server wants it in the file's name.
            labels: those of the data folder, see `labels`.

        Raises:
            InputError: a prediction that the server would refuse; the message names the sample.
            UsageError: the split has no server.
        """
        raise UsageError(f"Task {self.name} has no test server: there is no submission file to write.")

    def picture(self, sample: Sample, record: Mapping[str, Any], root: Path, *, labels: Any = None) -> Image:
        """The image, its truth and what was predicted, side by side (of tasks with `pictures`)."""
        raise NotImplementedError

    def source(self, sample: Sample) -> str:
        """Leak-check key: no key may occur in both the training split and a scored split. The sample, or its image."""
        return sample.id

    def hashed_inputs(self, sample: Sample, root: Path) -> Any:
        """JSON-able inputs of a sample for the data hash: image paths, texts or token ids.

        Paths are relative to the data folder `root`, so that the hash does not depend on where that is.
        """
        return sample.inputs

    def image_files(self, sample: Sample) -> Sequence[str]:
        """The image files that a sample is made of, shards too, relative to the data folder (or absolute)."""
        if isinstance(sample.inputs, str):
            return (file_of(sample.inputs),)
        return sample.inputs.get("images") or ((file_of(sample.inputs["image"]),) if "image" in sample.inputs else ())

    def passes(self, recipe: Recipe) -> Sequence[Pass] | None:
        """Passes of a training sample through the backbone; None where other parts of the model take memory too."""
        return None

    def taught(self, samples: Sequence[Sample]) -> int:
        """Number of training items that these samples give when none of them has to be left out."""
        return len(samples)

    def official(self, split: str, samples: Sequence[Sample]) -> bool:
        """Check that the samples of a whole split are the benchmark's own, and not another data set's in its layout.

        They are where there are as many as in the official split, or where it has no official size; tasks whose ids
        say more ask for those.
        """
        return self.splits[split].size in (None, len(samples))

    def subset(self, samples: Sequence[Sample], ids: Collection[str]) -> Sequence[Sample]:
        """The samples with these ids, which can be scored without the others.

        Raises:
            InputError: they cannot; the message says which others it takes.
        """
        return chosen(samples, [index for index, sample in enumerate(samples) if sample.id in ids])

    def limited(self, samples: Sequence[Sample], limit: int) -> Sequence[Sample]:
        """`limit` samples evenly spaced: class folders are sorted, so the first ones would be one class."""
        return chosen(samples, [index * len(samples) // limit for index in range(limit)])

    def only(self, splits: Sequence[str]) -> TaskAdapter:
        """A copy that knows some of the splits alone, so that `check` looks at no others.

        Raises:
            UsageError: unknown split.
        """
        some = copy(self)
        some.splits = {name: self.split(name) for name in splits}
        return some

    def split(self, name: str) -> Split:
        """A split by name.

        Raises:
            UsageError: unknown name.
        """
        if name not in self.splits:
            raise unknown(f"split of {self.name}", name, self.splits)
        return self.splits[name]

    def require_served(self, split: str) -> None:
        """Check that a split's truth is not public, so that a server takes predictions of it.

        Raises:
            UsageError: it is public; the message names the splits of which there are submissions.
        """
        if self.split(split).labels:
            served = " and ".join(name for name, facts in self.splits.items() if not facts.labels)
            raise UsageError(
                f"The truth of {split} is public, so no server takes it: `harness score {self.name}` scores it. "
                f"Submissions are of {served}."
            )

    @property
    def validates(self) -> str:
        """The split that is scored during training."""
        return self.validation_split or self.eval_split

    @property
    def primary(self) -> Metric:
        """The metric by which the task is compared."""
        return next(metric for metric in self.metrics if metric.primary)

    def metric(self, name: str) -> Metric:
        """A metric by name."""
        return next(metric for metric in self.metrics if metric.name == name)

    def data_folder(self, root: Path) -> Path:
        """The task's own folder under a data root that several tasks may share; an absolute path.

        What is beside it is found by this path's own parent, whatever links lead to: each folder may be a link to
        another disk.
        """
        root = Path(os.path.abspath(root))  # noqa: PTH100  `.` and `..` by name; resolve() would follow links
        return root / self.folder if (root / self.folder).is_dir() else root
