"""The hash of a split's data: what it covers, for every task, and what it does not depend on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tasks
from backbones import InputError
from harness.provenance import data_sha256
from tasks import toy
from tasks.adapter import Sample

TASKS = (
    "ade20k", "coco_captioning", "coco_detection", "coco_retrieval", "flickr30k_retrieval", "flickr30k_zero_shot",
    "imagenet", "nlvr2", "nocaps", "vqav2",
)  # fmt: skip
SHARED = ("vocabulary", "categories", "classes")  # of all samples; not of one
LOCATED = ("map",)  # an absolute path, whose file's hash is in the annotation


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn")
    toy.write(root, tasks=toy.FOLDERS, scale=0.001, image_size=32)
    return root


def hashed(task: str, root: Path, split: str) -> str:
    adapter = tasks.get(task)
    folder = adapter.data_folder(root)
    return data_sha256(adapter, adapter.samples(folder, split), folder)


def splits(task: str) -> list[str]:
    return [name for name in tasks.get(task).splits if (task, name) != ("flickr30k_zero_shot", "train")]


def available(task: str, root: Path) -> list[str]:
    """The splits that the practice set has."""
    adapter = tasks.get(task)
    found = []
    for split in splits(task):
        try:
            adapter.samples(adapter.data_folder(root), split)
        except InputError:
            continue
        found.append(split)
    return found


def changed(sample: Sample) -> Iterator[tuple[str, Sample]]:
    """The sample with another id, another annotation, and one other input at a time."""
    yield "id", sample._replace(id=sample.id + "x")
    if sample.annotation is not None:
        yield "annotation", sample._replace(annotation={**sample.annotation, "more": 1})
    if not isinstance(sample.inputs, dict):
        yield "inputs", sample._replace(inputs=other(sample.inputs))
        return
    for name, value in sample.inputs.items():
        if name not in (*SHARED, *LOCATED):
            yield name, sample._replace(inputs={**sample.inputs, name: other(value)})


def other(value: Any) -> Any:
    """One value of the same kind; of a list, with another last element."""
    if isinstance(value, str):
        return value + "x"
    return value + 1 if isinstance(value, int) else [*value[:-1], other(value[-1])]


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_it_covers_every_input_and_not_where_the_data_lie(task: str, drawn: Path, tmp_path: Path) -> None:
    adapter = tasks.get(task)
    folder = adapter.data_folder(drawn)
    found = available(task, drawn)
    assert adapter.eval_split in found
    assert len(found) >= 1 if task == "flickr30k_zero_shot" else len(found) >= 2
    moved = tmp_path / "elsewhere"
    for name in {adapter.folder, *(["coco"] if task == "nocaps" else [])}:
        shutil.copytree(drawn / name, moved / name)
    for split in found:
        samples = adapter.samples(folder, split)
        before = data_sha256(adapter, samples, folder)
        assert hashed(task, moved, split) == before, split
        kinds = {tuple(sample.inputs) if isinstance(sample.inputs, dict) else (): n for n, sample in enumerate(samples)}
        for number in kinds.values():  # one sample of each form: retrieval's images and texts
            for what, sample in changed(samples[number]):
                edited = [*samples[:number], sample, *samples[number + 1 :]]
                assert data_sha256(adapter, edited, folder) != before, (split, what)
        assert data_sha256(adapter, samples[::-1], folder) != before


def test_it_is_of_lines_that_anyone_can_make() -> None:
    import hashlib

    samples = [
        Sample("b", {"text": "Größe", "image": "b.jpg"}, {"label": 1}),
        Sample("a", {"image": "a.jpg", "text": [5, 6]}, None),
    ]
    lines = [
        r'["b",{"image":"b.jpg","text":"Gr\u00f6\u00dfe"},{"label":1}]',
        '["a",{"image":"a.jpg","text":[5,6]},null]',
    ]
    expected = hashlib.sha256("".join(line + "\n" for line in lines).encode()).hexdigest()
    assert data_sha256(tasks.get("nlvr2"), samples, Path()) == expected


def test_a_text_that_is_no_unicode_has_a_hash() -> None:
    samples = [Sample("a", {"text": json.loads(r'"\ud800"')}, None)]
    assert len(data_sha256(tasks.get("nlvr2"), samples, Path())) == 64
