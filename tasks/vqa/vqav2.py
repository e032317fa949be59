"""Visual question answering on VQA v2.0."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbones.errors import InputError, UsageError
from tasks.adapter import EVALAI_LARGEST, Finding, Metric, Progress, Sample, Split, Submission, TaskAdapter, TaskContext
from tasks.common import deviations
from tasks.common.checking import compared, missing_images
from tasks.common.reading import collector_paused, field, read_json
from tasks.recipe import Recipe
from tasks.vqa.annotations import (
    HELD_OUT,
    LABELLED,
    QuestionSet,
    annotations_file,
    distinct,
    held_out_images,
    held_out_source,
    index_file,
    questions_file,
    read_index,
    read_part,
)
from tasks.vqa.vocabulary import LABEL_FILE, Vocabulary, has_vocabulary, read_vocabulary

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.data import Dataset

    from tasks.bootstrap import Measurement
    from tasks.common.packing import Packed
    from tasks.vqa.model import VisualQuestionAnswering

_SERVED = {"labels": False, "server": "EvalAI challenge 830", "largest_file": EVALAI_LARGEST}
ANSWER_TYPES = ("yes/no", "number", "other")
# Where each split's questions are: official parts, or index files when those are all that there is.
PARTS = {
    "train": ("train2014", "val2014"),
    "val": ("val2014",),
    "rest_val": ("val2014",),
    "test-dev": ("test-dev2015",),
    "test-std": ("test2015",),
}
INDEXES = {
    "train": ("train", "trainable_val"),
    "val": ("val",),
    "rest_val": ("rest_val",),
    "test-dev": ("test-dev",),
    "test-std": ("test",),
}
OFFICIAL_SIZES = {"train2014": 443_757, "val2014": 214_354, "test-dev2015": 107_394, "test2015": 447_793}


@dataclass(frozen=True, kw_only=True)
class VQARecipe(Recipe):
    """Fine-tuning on questions."""

    max_tokens: int = 64  # of a question, <s> and </s> included
    rand_augment: bool = True

    ONLY_TRAINING = (*Recipe.ONLY_TRAINING, "rand_augment")


_OFFICIAL = "unilm beit3/get_started/get_started_for_vqav2.md and the code's defaults"
_HELD_OUT = (
    "the 1,000 held-out images are drawn with a fixed seed, officially with none (those of a vqa.rest_val.jsonl win)"
)
_BASE = VQARecipe(
    name="beit3_base_vqav2", source=_OFFICIAL, image_size=480, epochs=10, warmup_epochs=1, batch_size=128, lr=3e-5,
    head_lr_scale=20.0, weight_decay=0.01, beta2=0.98, drop_path=0.1, micro_batch=16,
    deviations=(*deviations.OFFICIAL, deviations.RAND_AUGMENT, _HELD_OUT),
)  # fmt: skip
_LARGE = replace(
    _BASE, name="beit3_large_vqav2", lr=2e-5, drop_path=0.15, micro_batch=16, checkpoint_activations=True
)  # fmt: skip
_INDOMAIN = "; from the indomain weights (unilm beit3/README.md)"
RECIPES = {
    "base": _BASE,
    "large": _LARGE,
    "base_indomain": replace(_BASE, name="beit3_base_indomain_vqav2", source=_OFFICIAL + _INDOMAIN),
    "large_indomain": replace(_LARGE, name="beit3_large_indomain_vqav2", source=_OFFICIAL + _INDOMAIN),
    "large_768": replace(
        _LARGE,
        name="beit3_large_768_vqav2",
        source="unilm beit3/README.md, VQAv2 table: weights beit3_large_indomain_patch16_768_vgqaaug_vqa.pth",
        image_size=768,
        micro_batch=4,
        deviations=(
            *_LARGE.deviations,
            "numbers of the training are unpublished: those of large at 480 px",
            "training data without the questions from Visual Genome, whose selection is unpublished",
        ),
    ),
    "giant": VQARecipe(
        name="beit3_giant_vqav2", source="arXiv 2208.10442, Table 12, VQAv2 column", image_size=756, epochs=10,
        warmup_epochs=1, batch_size=128, lr=1e-5, layer_decay=1.0, weight_decay=0.01, drop_path=0.4,
        rand_augment=False, micro_batch=2, checkpoint_activations=True,
        deviations=(
            *deviations.PAPER, "the paper states no learning rate of the head's own: that of the rest", _HELD_OUT,
        ),
    ),
    "nano": VQARecipe(
        name="multiway_nano_vqav2", source="ours, for two laptop cores and the toy data", image_size=64, epochs=6,
        warmup_epochs=1, batch_size=64, lr=1e-3, layer_decay=1.0, weight_decay=0.05, drop_path=0.0, clip_grad=3.0,
        rand_augment=False, micro_batch=64, workers=1,
    ),
}  # fmt: skip


class VQAv2(TaskAdapter):
    """The official VQA accuracy, overall and by answer type, and BEiT-3's own soft score.

    Training is BEiT-3's: train2014 and val2014 without the held-out images (`rest_val`), questions without an answer
    in the vocabulary left out. For layouts see `tasks.vqa.annotations`; the official files win over the index files,
    which have no more than soft labels and so allow `soft_score` alone. What an answer is worth to `soft_score` is part
    of the truth, so a split's data hash differs between a folder with the vocabulary and one without.
    """

    name = "vqav2"
    dataset = "VQA v2.0"
    citation = "Goyal et al., Making the V in VQA Matter, CVPR 2017"
    splits: Mapping[str, Split] = {
        "train": Split(),
        "val": Split(size=OFFICIAL_SIZES["val2014"]),
        "rest_val": Split(),
        "test-dev": Split(size=OFFICIAL_SIZES["test-dev2015"], within="test-std", **_SERVED),
        "test-std": Split(size=OFFICIAL_SIZES["test2015"], **_SERVED),
    }
    metrics = (
        Metric(
            name="accuracy", unit="percent", primary=True,
            source="official VQA accuracy (GT-Vision-Lab/VQA vqaEval.py), which prints it with two decimals",
        ),
        *(
            Metric(name=f"accuracy_{kind}", unit="percent", source=f"the same over questions of answer type {kind}")
            for kind in ANSWER_TYPES
        ),
        Metric(
            name="soft_score", unit="percent",
            source="unilm beit3, VQAScore: worth of the answer among the ten as they are written, over the questions "
            "that have one in the vocabulary. Not comparable with the official accuracy.",
        ),
    )  # fmt: skip
    recipes = RECIPES
    folder = "coco"
    eval_split = "rest_val"
    prediction_forms = '.json: [{"question_id": 1, "answer": "yes"}]; .jsonl: {"id": "1", "answer": "yes"} a line'
    needs_text = True

    def check(self, root: Path, *, decode: bool, progress: Progress) -> list[Finding]:
        findings = []
        parts = {part for split in self.splits for part in PARTS[split]}
        for part in (part for part in OFFICIAL_SIZES if part in parts):
            findings += self._check_part(root, part, decode=decode, progress=progress)
        for split in self.splits:
            if not _has_parts(root, split) and _has_indexes(root, split):
                findings += self._check_index(root, split, decode=decode, progress=progress)
        try:
            findings.append(Finding(True, f"answers: {len(_vocabulary(root).answers):,} (official: 3,129)"))
        except InputError as error:
            findings.append(Finding(False, str(error)))
        return findings

    def _check_part(self, root: Path, part: str, *, decode: bool, progress: Progress) -> list[Finding]:
        file = questions_file(root, part)
        if not file.is_file():
            needed = part in LABELLED and not any(root.glob("vqa.*.jsonl"))
            text = f"{part}: {file} is absent{'. Put it there.' if needed else ''}"
            return [Finding(not needed, text, absent=not needed)]
        try:
            found = read_part(root, part)
        except InputError as error:
            return [Finding(False, str(error))]
        images = found.image_paths()
        count = compared(len(found.questions), "questions", OFFICIAL_SIZES[part])
        findings = [Finding(True, f"{part}: {count} on {len(images):,} images")]
        findings += [Finding(False, problem) for problem in found.problems()]
        if part == "val2014":
            try:
                held_out = held_out_images(root, (question.image for question in found.questions))
                source = held_out_source(root)
                origin = "chosen by their ids" if source is None else f"from {source}"
                findings.append(Finding(True, f"held-out images: {len(held_out):,}, {origin}"))
            except InputError as error:
                findings.append(Finding(False, str(error)))
        paths = [root / image for image in images]
        return findings + missing_images(paths, part, decode=decode, progress=progress)

    def _check_index(self, root: Path, split: str, *, decode: bool, progress: Progress) -> list[Finding]:
        try:
            samples = self.samples(root, split)
        except InputError as error:
            return [Finding(False, str(error))]
        images = sorted({sample.inputs["image"] for sample in samples})
        count = compared(len(samples), "questions", self.splits[split].size)
        limits = ", no official accuracy" if self.splits[split].labels else ""
        return [
            Finding(True, f"{split}: {count} on {len(images):,} images, from index files alone: token ids{limits}"),
            *missing_images([root / image for image in images], split, decode=decode, progress=progress),
        ]

    def samples(self, root: Path, split: str) -> Packed:
        from tasks.common.packing import Packed

        self.split(split)
        with collector_paused():
            found = self._from_parts(root, split) if _has_parts(root, split) else self._from_indexes(root, split)
            samples = Packed.of(distinct(found, split))
        if not samples:
            raise InputError(f"Split {split} under {root} has no questions. Put the complete files there.")
        return samples

    def official(self, split: str, samples: Sequence[Sample]) -> bool:
        """By size, and where the split is made here by ids: those of COCO's images, of which no less are held out."""
        if self.splits[split].size is not None:
            return super().official(split, samples)
        images = {sample.annotation["image"] for sample in samples}
        return len(images) >= HELD_OUT and all(
            isinstance(sample.annotation["image"], int) and int(sample.id) // 1000 == sample.annotation["image"]
            for sample in samples
        )

    def labels(self, root: Path) -> Vocabulary:
        """The answers to choose from."""
        return _vocabulary(root)

    def _from_parts(self, root: Path, split: str) -> Iterator[Sample]:
        parts = [read_part(root, part) for part in PARTS[split]]
        needed = split == "train" or has_vocabulary(root, _annotation_files(root))
        vocabulary = _vocabulary(root, parts) if needed else None
        if split not in ("train", "rest_val"):
            yield from parts[-1].samples(vocabulary)
            return
        held_out = held_out_images(root, (question.image for question in parts[-1].questions))
        for part in parts:
            for sample in part.samples(vocabulary):
                kept_out = part is parts[-1] and sample.annotation["image"] in held_out
                # As in the official code, a question that no answer of the vocabulary fits teaches nothing.
                if kept_out if split == "rest_val" else not kept_out and sample.annotation["targets"]:
                    yield sample

    def _from_indexes(self, root: Path, split: str) -> Iterator[Sample]:
        if not _has_indexes(root, split):
            official = ", ".join(questions_file(root, part).name for part in PARTS[split])
            index = ", ".join(index_file(root, name).name for name in INDEXES[split])
            raise InputError(
                f"No {split} questions under {root}: neither {official} in its folder vqa nor {index}. Point --data at "
                "the COCO folder that has them, or at the folder above."
            )
        labelled = self.splits[split].labels
        known = labelled or has_vocabulary(root, _annotation_files(root))
        vocabulary = _vocabulary(root) if known else None
        for name in INDEXES[split]:
            yield from read_index(root, name, vocabulary, labelled=labelled)

    def hashed_inputs(self, sample: Sample, root: Path) -> Any:
        return {name: value for name, value in sample.inputs.items() if name != "vocabulary"}

    def train_set(self, samples: Sequence[Sample], context: TaskContext) -> Dataset:
        from tasks.common.images import augmented

        recipe = context.recipe
        transform = augmented(recipe.image_size, rand_augment=recipe.rand_augment)
        return self._items(samples, context, transform=transform, vocabulary=self.labels_of(context))

    def eval_set(self, samples: Sequence[Sample], context: TaskContext) -> Dataset:
        from tasks.common.images import square

        return self._items(samples, context, transform=square(context.recipe.image_size), remembered=1)

    def _items(self, samples: Sequence[Sample], context: TaskContext, **options: Any) -> Dataset:
        from tasks.common.text import TextField
        from tasks.vqa.dataset import VQADataset

        text = TextField(tokenizer=context.tokenizer, length=context.recipe.max_tokens)
        return VQADataset(samples, root=context.root, text=text, **options)

    def model(self, backbone: nn.Module, context: TaskContext) -> VisualQuestionAnswering:
        from tasks.vqa.model import VisualQuestionAnswering

        return VisualQuestionAnswering(backbone, answers=self.labels_of(context).answers)

    def score(self, predictions: Mapping[str, Mapping[str, Any]], samples: Sequence[Sample]) -> list[Measurement]:
        answers = [_answer(predictions[sample.id], sample.id) for sample in samples]
        truths = [sample.annotation for sample in samples]
        with collector_paused():
            return [*_accuracies(answers, truths), _soft_score(answers, truths)]

    def backbone_options(self, recipe: Recipe, *, layers: int) -> dict[str, Any]:
        return {"final_norm": False}

    def read_official(self, path: Path) -> list[dict[str, Any]]:
        """Records of a results file of the VQA challenge: a JSON list of {"question_id": …, "answer": "…"}."""
        rows = read_json(path, what="VQA results")
        if not isinstance(rows, list):
            raise InputError(f'{path} is not a list of {{"question_id": …, "answer": "…"}}, as VQA results are.')
        return [
            {"id": str(field(row, "question_id", where=where)), "answer": field(row, "answer", where=where)}
            for row, where in ((row, f"{path}, result {number} (from 0)") for number, row in enumerate(rows))
        ]

    def submission(
        self, predictions: Mapping[str, Mapping[str, Any]], samples: Sequence[Sample], *, split: str, name: str
    ) -> list[Submission]:
        if self.split(split).labels:
            raise UsageError(
                f"The answers of {split} are public, so no server takes it: `harness score {self.name}` scores it. "
                "Submissions are of test-dev and test-std."
            )
        results = []
        for sample in samples:
            answer = _answer(predictions[sample.id], sample.id)
            _require_known(answer, sample)
            results.append({"question_id": int(sample.id), "answer": answer})
        filename = f"vqa_OpenEnded_mscoco_{PARTS[split][0]}_{name}_results.json"
        return [Submission(filename, json.dumps(results, ensure_ascii=False).encode())]


def _annotation_files(root: Path) -> list[Path]:
    return [annotations_file(root, part) for part in LABELLED]


def _vocabulary(root: Path, parts: Sequence[QuestionSet] = ()) -> Vocabulary:
    """The answers to choose from; `parts` are those that are read already."""
    known = {
        annotations_file(root, part.name): [annotation.most_frequent for annotation in part.annotations]
        for part in parts
        if part.annotations is not None
    }
    return read_vocabulary(root, _annotation_files(root), known=known)


def _has_parts(root: Path, split: str) -> bool:
    return all(questions_file(root, part).is_file() for part in PARTS[split])


def _has_indexes(root: Path, split: str) -> bool:
    return all(index_file(root, name).is_file() for name in INDEXES[split])


def _answer(record: Mapping[str, Any], question: str) -> str:
    answer = record.get("answer")
    if not isinstance(answer, str):
        raise InputError(
            f"The prediction of question {question} has no text under 'answer' (found: {answer!r}). A record of this "
            'task is {"id": question id, "answer": "…"}.'
        )
    return answer


def _require_known(answer: str, sample: Sample) -> None:
    """Refuse an answer outside the vocabulary."""
    vocabulary = sample.inputs.get("vocabulary")
    if vocabulary is None:
        raise InputError(
            "A submission is checked against the answer vocabulary, which this data folder lacks: put the annotations "
            f"of {' and '.join(LABELLED)} or {LABEL_FILE} there."
        )
    if answer not in vocabulary.ids:
        raise InputError(
            f"Question {sample.id} has an answer outside the vocabulary of {len(vocabulary.answers):,}: {answer!r}. "
            "Predict again with this data folder, or bring the answer2label.txt that the predictions were made with."
        )


def _accuracies(answers: Sequence[str], truths: Sequence[Mapping[str, Any]]) -> list[Measurement]:
    """Official accuracy overall and by answer type; questions on one image are one unit."""
    from tasks.bootstrap import mean, unavailable
    from tasks.vqa.metrics import accuracy

    names = ["accuracy", *(f"accuracy_{kind}" for kind in ANSWER_TYPES)]
    if any("answers" not in truth for truth in truths):
        reason = (
            "official accuracy needs each question's ten answers, and index files have none: put the official "
            "questions and annotations into the folder vqa beside them"
        )
        return [unavailable(name, reason, samples=len(truths)) for name in names]
    scored = [
        (accuracy(answer, truth["answers"]), truth["image"], truth["answer_type"])
        for answer, truth in zip(answers, truths, strict=True)
    ]
    measurements = []
    for name, kind in zip(names, (None, *ANSWER_TYPES), strict=True):
        chosen = [(value, image) for value, image, found in scored if kind in (None, found)]
        if chosen:
            values, images = zip(*chosen, strict=True)
            measurements.append(mean(name, values, units=images, proportion=True))
        else:
            measurements.append(unavailable(name, f"there is no question of answer type {kind}", samples=0))
    return measurements


def _soft_score(answers: Sequence[str], truths: Sequence[Mapping[str, Any]]) -> Measurement:
    """BEiT-3's own validation score; questions without an answer in the vocabulary are left out, as it does."""
    from tasks.bootstrap import mean, unavailable

    chosen = [
        (truth["targets"].get(answer, 0.0), truth["image"])
        for answer, truth in zip(answers, truths, strict=True)
        if truth.get("targets")
    ]
    if not chosen:
        reason = (
            "no question has an answer in the vocabulary, or there is none: it needs the annotations of "
            f"{' and '.join(LABELLED)}, or {LABEL_FILE}"
        )
        return unavailable("soft_score", reason, samples=len(truths))
    values, images = zip(*chosen, strict=True)
    return mean("soft_score", values, units=images, proportion=True)
