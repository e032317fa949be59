"""VQA v2.0 on disk: the official questions and annotations, and the index files of the BEiT-3 code.

train2014/COCO_train2014_000000000009.jpg …      also val2014, test2015
                                                 of an image whose id is a text: train2014/<id>.jpg, or <id> alone when
                                                 that ends in .jpg, .jpeg or .png
vqa/v2_OpenEnded_mscoco_train2014_questions.json also val2014, test2015, test-dev2015
vqa/v2_mscoco_train2014_annotations.json         also val2014
vqa/rest_val_images.json                         a list of your own of validation images held out from training
vqa.train.jsonl, answer2label.txt                index files, a question per line with its text as token ids
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from backbones.errors import InputError
from tasks.adapter import Sample
from tasks.common.nearby import nearby
from tasks.common.packing import Packed
from tasks.common.reading import RESTORE, collector_paused, repeated
from tasks.vqa.held_out import held_out_images
from tasks.vqa.index_file import index_file, read_index
from tasks.vqa.question_set import LABELLED, QuestionSet, annotations_file, questions_file, read_question_set
from tasks.vqa.vocabulary import Vocabulary, has_vocabulary, read_vocabulary

# Where each split's questions are: official question sets, or index files when those are all that there is.
QUESTION_SETS = {
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


def read_samples(root: Path, split: str, *, labelled: bool) -> Packed:
    """The samples of a split; the official files win over the index files.

    inputs: {"image": path relative to `root`, "text": the question, or its token ids}.
    annotation: {"image": id, "question_type", "answer_type", "answers": [ten texts]}, of index files the image alone;
    with a vocabulary also "targets": what each answer is worth. None where the answers are not public.

    Raises:
        InputError: no or incomplete files, a file of another form, or a question id twice.
    """
    with collector_paused():
        found = _from_sets(root, split) if has_question_sets(root, split) else _from_indexes(root, split, labelled)
        samples = Packed.of(_distinct(found, split))
    if not samples:
        raise InputError(f"Split {split} under {root} has no questions. Put the complete files there.")
    return samples


def answers(root: Path, sets: Sequence[QuestionSet] = ()) -> Vocabulary:
    """The answers to choose from; `sets` are those that are read already.

    Raises:
        InputError: see `read_vocabulary`.
    """
    known = {
        annotations_file(root, each.name): [annotation.most_frequent for annotation in each.annotations]
        for each in sets
        if each.annotations is not None
    }
    return read_vocabulary(root, _annotation_files(root), known=known)


def answers_known(root: Path) -> bool:
    """Check that `answers` finds its files."""
    return has_vocabulary(root, _annotation_files(root))


def has_question_sets(root: Path, split: str) -> bool:
    """Check that a split's official questions are there."""
    return all(questions_file(root, name).is_file() for name in QUESTION_SETS[split])


def has_indexes(root: Path, split: str) -> bool:
    """Check that a split's index files are there."""
    return all(index_file(root, name).is_file() for name in INDEXES[split])


def _annotation_files(root: Path) -> list[Path]:
    return [annotations_file(root, name) for name in LABELLED]


def _from_sets(root: Path, split: str) -> Iterator[Sample]:
    sets = [read_question_set(root, name) for name in QUESTION_SETS[split]]
    vocabulary = answers(root, sets) if split == "train" or answers_known(root) else None
    if split not in ("train", "rest_val"):
        yield from sets[-1].samples(vocabulary)
        return
    held_out = held_out_images(root, (question.image for question in sets[-1].questions))
    for each in sets:
        for sample in each.samples(vocabulary):
            kept_out = each is sets[-1] and sample.annotation["image"] in held_out
            # As in the official code, a question that no answer of the vocabulary fits teaches nothing.
            if kept_out if split == "rest_val" else not kept_out and sample.annotation["targets"]:
                yield sample


def _from_indexes(root: Path, split: str, labelled: bool) -> Iterator[Sample]:
    if not has_indexes(root, split):
        raise InputError(_absent(root, split))
    vocabulary = answers(root) if labelled else None
    for name in INDEXES[split]:
        yield from read_index(root, name, vocabulary, labelled=labelled)


def _absent(root: Path, split: str) -> str:
    """The message for a split that has neither all its official questions nor its index files."""
    official = [questions_file(root, name) for name in QUESTION_SETS[split]]
    index = [index_file(root, name) for name in INDEXES[split]]
    for files in (official, index):
        missing = [file.name for file in files if not file.is_file()]
        if len(missing) < len(files):
            present = ", ".join(file.name for file in files if file.is_file())
            return (
                f"The {split} questions in {files[0].parent} are not complete: {present} is there, and "
                f"{', '.join(missing)} is absent. Put it there too."
            )
    names = [", ".join(file.name for file in files) for files in (official, index)]
    return (
        f"No {split} questions under {root}: neither {names[0]} in its folder vqa nor {names[1]}. Point --data at the "
        f"COCO folder that has them, or at the folder above.{nearby(root, f'vqa/{official[0].name}', index[0].name)}"
    )


def _distinct(samples: Iterable[Sample], split: str) -> Iterator[Sample]:
    """The samples, of which no two may have one id.

    Raises:
        InputError: at the end, when two have; the message names them.
    """
    counts: Counter[str] = Counter()
    for sample in samples:
        counts[sample.id] += 1
        yield sample
    if duplicates := repeated(counts):
        raise InputError(
            f"{len(duplicates):,} question id(s) appear twice in {split}, such as {duplicates[0]}. {RESTORE}"
        )
