"""Visual question answering on VQA v2.0."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbones.errors import InputError
from tasks.adapter import (
    EVALAI_MAX_BYTES,
    Finding,
    Metric,
    Pass,
    Progress,
    Sample,
    Split,
    Submission,
    TaskAdapter,
    TaskContext,
)
from tasks.common.checking import compared, missing_images
from tasks.common.reading import collector_paused, field, read_json
from tasks.recipe import Recipe
from tasks.vqa.held_out import HELD_OUT_IMAGES, held_out_images, held_out_source
from tasks.vqa.question_set import ANSWER_TYPES, LABELLED, QuestionSet, questions_file, read_question_set
from tasks.vqa.recipes import RECIPES
from tasks.vqa.vocabulary import LABEL_FILE, Vocabulary

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.data import Dataset

    from tasks.bootstrap import Measurement
    from tasks.common.packing import Packed
    from tasks.vqa.model import VisualQuestionAnswering

_SERVED = {"labels": False, "server": "EvalAI challenge 830", "largest_file": EVALAI_MAX_BYTES}
OFFICIAL_SIZES = {"train2014": 443_757, "val2014": 214_354, "test-dev2015": 107_394, "test2015": 447_793}


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
        from tasks.vqa import annotations

        findings = []
        wanted = {name for split in self.splits for name in annotations.QUESTION_SETS[split]}
        for name in (name for name in OFFICIAL_SIZES if name in wanted):
            findings += self._check_questions(root, name, decode=decode, progress=progress)
        for split in self.splits:
            if not annotations.has_question_sets(root, split) and annotations.has_indexes(root, split):
                findings += self._check_index(root, split, decode=decode, progress=progress)
        try:
            findings.append(Finding(True, f"answers: {len(annotations.answers(root).answers):,} (official: 3,129)"))
        except InputError as error:
            findings.append(Finding(False, str(error)))
        return findings

    def _check_questions(self, root: Path, name: str, *, decode: bool, progress: Progress) -> list[Finding]:
        file = questions_file(root, name)
        if not file.is_file():
            needed = name in LABELLED and not any(root.glob("vqa.*.jsonl"))
            text = f"{name}: {file} is absent{'. Put it there.' if needed else ''}"
            return [Finding(not needed, text, absent=not needed)]
        try:
            questions = read_question_set(root, name)
        except InputError as error:
            return [Finding(False, str(error))]
        images = questions.image_paths()
        count = compared(len(questions.questions), "questions", OFFICIAL_SIZES[name])
        findings = [Finding(True, f"{name}: {count} on {len(images):,} images")]
        findings += [Finding(False, problem) for problem in questions.problems()]
        if name == "val2014":
            findings.append(_check_held_out(root, questions))
        paths = [root / image for image in images]
        return findings + missing_images(paths, name, decode=decode, progress=progress)

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
        from tasks.vqa.annotations import read_samples

        return read_samples(root, split, labelled=self.split(split).labels)

    def official(self, split: str, samples: Sequence[Sample]) -> bool:
        """By size, and where the split is made here by ids: those of COCO's images, of which no less are held out."""
        if self.splits[split].size is not None:
            return super().official(split, samples)
        images = {sample.annotation["image"] for sample in samples}
        return len(images) >= HELD_OUT_IMAGES and all(
            isinstance(sample.annotation["image"], int) and int(sample.id) // 1000 == sample.annotation["image"]
            for sample in samples
        )

    def labels(self, root: Path) -> Vocabulary | None:
        """The answers to choose from; None in a folder without them, whose questions can be read all the same."""
        from tasks.vqa.annotations import answers, answers_known

        return answers(root) if answers_known(root) else None

    def _vocabulary(self, context: TaskContext) -> Vocabulary:
        from tasks.vqa.annotations import answers

        return answers(context.root) if context.labels is None else context.labels

    def train_set(self, samples: Sequence[Sample], context: TaskContext) -> Dataset:
        from tasks.common.images import augmented

        recipe = context.recipe
        transform = augmented(recipe.image_size, rand_augment=recipe.rand_augment)
        return self._dataset(samples, context, transform=transform, vocabulary=self._vocabulary(context))

    def eval_set(self, samples: Sequence[Sample], context: TaskContext) -> Dataset:
        from tasks.common.images import square

        return self._dataset(samples, context, transform=square(context.recipe.image_size), remembered=1)

    def _dataset(self, samples: Sequence[Sample], context: TaskContext, **options: Any) -> Dataset:
        from tasks.common.text import TextField
        from tasks.vqa.dataset import VQADataset

        text = TextField(tokenizer=context.tokenizer, length=context.recipe.max_tokens)
        return VQADataset(samples, root=context.root, text=text, **options)

    def passes(self, recipe: Recipe) -> Sequence[Pass]:
        return (Pass(image=True, text=recipe.max_tokens),)

    def model(self, backbone: nn.Module, context: TaskContext) -> VisualQuestionAnswering:
        from tasks.vqa.model import VisualQuestionAnswering

        return VisualQuestionAnswering(backbone, answers=self._vocabulary(context).answers)

    def score(
        self, predictions: Mapping[str, Mapping[str, Any]], samples: Sequence[Sample], *, labels: Any = None
    ) -> list[Measurement]:
        from tasks.vqa.metrics import answer_of, measure

        with collector_paused():
            answers = [answer_of(predictions[sample.id], sample.id) for sample in samples]
            return measure(answers, [sample.annotation for sample in samples])

    def backbone_options(self, recipe: Recipe, *, layers: int) -> dict[str, Any]:
        return {"final_norm": False}

    def read_official(self, path: Path) -> list[dict[str, Any]]:
        """Records of a results file of the VQA challenge: a JSON list of {"question_id": …, "answer": "…"}."""
        rows = read_json(path, what="VQA results")
        if not isinstance(rows, list):
            raise InputError(f'{path} is not a list of {{"question_id": …, "answer": "…"}}, as VQA results are.')
        return [
            {"id": str(field(row, "question_id", where=where)), "answer": field(row, "answer", where=where)}
            for row, where in ((row, f"{path}, result {index} (from 0)") for index, row in enumerate(rows))
        ]

    def submission(
        self,
        predictions: Mapping[str, Mapping[str, Any]],
        samples: Sequence[Sample],
        *,
        split: str,
        name: str,
        labels: Vocabulary | None = None,
    ) -> list[Submission]:
        from tasks.vqa.annotations import QUESTION_SETS
        from tasks.vqa.metrics import answer_of

        self.require_served(split)
        if labels is None:
            raise InputError(
                "A submission is checked against the answer vocabulary, which this data folder lacks: put the "
                f"annotations of {' and '.join(LABELLED)} or {LABEL_FILE} there."
            )
        results = []
        for sample in samples:
            answer = answer_of(predictions[sample.id], sample.id)
            if answer not in labels.ids:
                raise InputError(
                    f"Question {sample.id} has an answer outside the vocabulary of {len(labels.answers):,}: "
                    f"{answer!r}. Predict again with this data folder, or provide the {LABEL_FILE} that the "
                    "predictions were made with."
                )
            results.append({"question_id": int(sample.id), "answer": answer})
        filename = f"vqa_OpenEnded_mscoco_{QUESTION_SETS[split][0]}_{name}_results.json"
        return [Submission(filename, json.dumps(results, ensure_ascii=False).encode())]


def _check_held_out(root: Path, questions: QuestionSet) -> Finding:
    try:
        held_out = held_out_images(root, (question.image for question in questions.questions))
    except InputError as error:
        return Finding(False, str(error))
    source = held_out_source(root)
    origin = "chosen by their ids" if source is None else f"from {source}"
    return Finding(True, f"held-out images: {len(held_out):,}, {origin}")
