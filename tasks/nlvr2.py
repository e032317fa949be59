"""NLVR2: is a sentence about two photographs true?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbones.errors import InputError
from tasks import deviations
from tasks.adapter import Finding, Metric, Progress, Sample, Setting, Split, Submission, TaskAdapter
from tasks.checking import check_splits, compared
from tasks.reading import field, read_lines
from tasks.recipe import Recipe

if TYPE_CHECKING:
    from torch.utils.data import Dataset

    from tasks.models.reasoner import Reasoner
    from tasks.statistics import Measurement

ANNOTATIONS = "nlvr/nlvr2/data"  # of a clone of lil-lab/nlvr in the data folder
FILES = {"train": "train.json", "dev": "dev.json", "test-P": "test1.json"}
IMAGE_FOLDERS = {"train": "images/train", "dev": "dev", "test-P": "test1"}
LABELS = {"False": 0, "True": 1}


@dataclass(frozen=True, kw_only=True)
class NLVR2Recipe(Recipe):
    """Fine-tuning on sentences about two images."""

    max_tokens: int = 64  # tokens, <s> and </s> counted
    rand_augment: bool = False

    ONLY_TRAINING = (*Recipe.ONLY_TRAINING, "rand_augment")


_OFFICIAL = "unilm beit3/get_started/get_started_for_nlvr2.md and the code's defaults"


def _official(name: str, **numbers: Any) -> NLVR2Recipe:
    shared = {
        "image_size": 224,
        "epochs": 20,
        "warmup_epochs": 5,
        "batch_size": 256,
        "weight_decay": 0.2,
        "drop_path": 0.2,
        "deviations": deviations.OFFICIAL,
    }
    return NLVR2Recipe(name=f"beit3_{name}_nlvr2", source=_OFFICIAL, **shared, **numbers)


RECIPES = {
    "base": _official("base", lr=7e-4, layer_decay=0.65, micro_batch=32),
    "base_indomain": _official("base_indomain", lr=5e-4, layer_decay=0.65, micro_batch=32),
    "large": _official("large", lr=3e-4, layer_decay=0.85, micro_batch=16),
    "large_indomain": _official("large_indomain", lr=1e-4, layer_decay=0.85, micro_batch=16),
    "giant": NLVR2Recipe(
        name="beit3_giant_nlvr2", source="arXiv 2208.10442, Table 12, NLVR2 column", image_size=224, epochs=20,
        warmup_epochs=5, batch_size=256, lr=1e-3, layer_decay=0.8, weight_decay=0.05, drop_path=0.4, micro_batch=8,
        checkpoint_activations=True, deviations=deviations.PAPER,
    ),
    "nano": NLVR2Recipe(
        name="multiway_nano_nlvr2", source="ours, for two laptop cores and the toy data", image_size=64, epochs=7,
        warmup_epochs=1, batch_size=64, lr=1e-3, weight_decay=0.05, drop_path=0.0, clip_grad=3.0, micro_batch=64,
        workers=1,
    ),
}  # fmt: skip


class NLVR2(TaskAdapter):
    """Accuracy, and consistency: the share of sentences that are right about each of their image pairs.

    Layouts: the official annotations `nlvr/nlvr2/data/{train,dev,test1}.json` (a clone of lil-lab/nlvr), or the
    official index files `nlvr2.{train,dev,test-P}.index.jsonl`, which stand in where an annotation file is absent.
    Images: `images/train/<directory>/<pair>-img0.png`, `dev/<pair>-img0.png`, `test1/<pair>-img0.png` and
    `-img1.png`. A sample's id is its identifier, such as dev-850-0-1: split, set of images, pair, sentence.
    """

    name = "nlvr2"
    dataset = "NLVR2"
    citation = "Suhr et al., A Corpus for Reasoning About Natural Language Grounded in Photographs, ACL 2019"
    splits: Mapping[str, Split] = {
        "train": Split(size=86_373),
        "dev": Split(size=6_982),
        "test-P": Split(size=6_967),
    }
    metrics = (
        Metric(name="accuracy", unit="percent", primary=True, source="lil-lab/nlvr nlvr2/eval/metrics.py"),
        Metric(name="consistency", unit="percent", source="lil-lab/nlvr nlvr2/eval/metrics.py"),
    )
    recipes = RECIPES
    folder = "nlvr2"
    eval_split = "dev"
    needs_text = True

    def check(self, root: Path, *, decode: bool, progress: Progress) -> list[Finding]:
        def told(split: str, samples: Sequence[Sample]) -> str:
            statements = compared(len(samples), "statements", self.splits[split].size)
            return f"{statements}, {len({_sentence(sample.id) for sample in samples}):,} sentences"

        return check_splits(
            self, root, told=told, images=lambda sample: sample.inputs["images"], decode=decode, progress=progress
        )

    def samples(self, root: Path, split: str) -> list[Sample]:
        self.split(split)
        file, index = root / ANNOTATIONS / FILES[split], root / f"nlvr2.{split}.index.jsonl"
        if not file.is_file() and not index.is_file():
            raise InputError(
                f"No NLVR2 {split} annotations under {root}: neither {ANNOTATIONS}/{FILES[split]} (clone lil-lab/nlvr "
                f"into the folder) nor {index.name}. Or draw a practice set with `harness toy FOLDER`."
            )
        samples = _annotated(file, split) if file.is_file() else _indexed(index)
        seen: set[str] = set()
        for sample in samples:
            if sample.id in seen:
                raise InputError(f"{file if file.is_file() else index} has the identifier {sample.id} twice.")
            seen.add(sample.id)
        return samples

    def train_set(self, samples: Sequence[Sample], setting: Setting) -> Dataset:
        from tasks.images import augmented

        recipe = setting.recipe
        transform = augmented(recipe.image_size, rand_augment=recipe.rand_augment)
        return self._items(samples, setting, transform=transform)

    def eval_set(self, samples: Sequence[Sample], setting: Setting) -> Dataset:
        from tasks.images import square

        return self._items(
            samples, setting, transform=square(setting.recipe.image_size), remembered=8
        )  # four pairs of images share a sentence

    def _items(self, samples: Sequence[Sample], setting: Setting, **options: Any) -> Dataset:
        from tasks.items.statements import StatementItems
        from tasks.text import TextField

        text = TextField(tokenizer=setting.tokenizer, length=setting.recipe.max_tokens)
        return StatementItems(samples, root=setting.root, text=text, **options)

    def model(self, backbone: Any, setting: Setting) -> Reasoner:
        from tasks.models.reasoner import Reasoner

        return Reasoner(backbone)

    def score(self, predictions: Mapping[str, Mapping[str, Any]], samples: Sequence[Sample]) -> list[Measurement]:
        import numpy as np

        from tasks.statistics import mean

        hits = np.array([_predicted(predictions[s.id], s.id) == s.annotation["label"] for s in samples])
        sentences, index = np.unique([_sentence(sample.id) for sample in samples], return_inverse=True)
        wrong = np.bincount(index, ~hits, minlength=len(sentences))
        return [mean("accuracy", hits, units=index), mean("consistency", wrong == 0)]

    def read_official(self, path: Path) -> list[dict[str, Any]]:
        """A csv of `identifier,True` or `identifier,False` lines, as the official script reads."""
        from tasks.reading import read_text

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
        self, predictions: Mapping[str, Mapping[str, Any]], samples: Sequence[Sample], *, split: str, name: str
    ) -> list[Submission]:
        words = {label: word for word, label in LABELS.items()}
        lines = [f"{sample.id},{words[_predicted(predictions[sample.id], sample.id)]}\n" for sample in samples]
        return [Submission(f"nlvr2_{split}_{name}.csv", "".join(lines).encode())]


def _annotated(file: Path, split: str) -> list[Sample]:
    samples = []
    for where, row in read_lines(file, what=f"NLVR2 {split} annotations"):
        identifier, label = field(row, "identifier", where=where), field(row, "label", where=where)
        if label not in LABELS:
            raise InputError(f"{where}: the label of {identifier} is {label!r}, neither 'True' nor 'False'.")
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


def _sentence(identifier: str) -> str:
    """What the statements of one sentence share: the identifier without its pair."""
    fields = identifier.split("-")
    return "-".join([*fields[:2], *fields[3:]])


def _predicted(record: Mapping[str, Any], sample: str) -> int:
    label = record.get("label")
    if label not in (0, 1):
        raise InputError(
            f"The prediction of {sample} has no label 0 or 1 (found: {label!r}). A record of this task is "
            '{"id": identifier, "label": 1}, 1 for True.'
        )
    return int(label)
