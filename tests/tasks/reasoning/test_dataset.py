from __future__ import annotations

from pathlib import Path

import tasks
from backbones.tokenizer import Tokenizer
from tasks.adapter import TaskContext

ADAPTER = tasks.get("nlvr2")


def test_evaluation_decodes_an_image_once_for_the_sentences_about_it(
    folder: Path, spm: Path, decoded: list[Path]
) -> None:
    samples = ADAPTER.samples(folder, "dev")  # per set of images: two pairs, each with both sentences
    context = TaskContext(root=folder, recipe=ADAPTER.recipes["nano"], tokenizer=Tokenizer(spm))
    items = ADAPTER.eval_set(samples, context)
    for index in range(len(items)):
        items[index]
    assert len(decoded) == len(set(decoded)) == 3 * 2 * 2
