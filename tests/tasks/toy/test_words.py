"""The texts to make a tokenizer from have every word that the toy set writes."""

from __future__ import annotations

import json
import re
from itertools import islice
from pathlib import Path

import pytest

from tasks import toy
from tasks.toy.words import sentences


def words(texts: list[str]) -> set[str]:
    return {word for text in texts for word in re.findall(r"\w+|[^\w\s]", text)}


def test_sentences_are_many_and_always_the_same() -> None:
    first = list(sentences(50))
    assert first == list(islice(sentences(), len(first)))
    assert len(first) == 50 * (5 + 2 * 3 + 2)
    assert not [text for text in first if text != text.strip() or not text]


@pytest.mark.slow
def test_sentences_have_all_words(tmp_path: Path) -> None:
    toy.write(tmp_path, scale=0.05, tasks=("nlvr2", "coco", "flickr30k", "nocaps"), image_size=32, seed=3)
    written = [
        json.loads(line)["sentence"]
        for path in (tmp_path / "nlvr2" / "nlvr" / "nlvr2" / "data").glob("*.json")
        for line in path.read_text().splitlines()
    ]
    for path in (tmp_path / "coco" / "vqa").glob("*_questions.json"):
        written += [row["question"] for row in json.loads(path.read_text())["questions"]]
    for path in (tmp_path / "coco" / "dataset_coco.json", tmp_path / "flickr30k" / "dataset_flickr30k.json"):
        written += [text["raw"] for row in json.loads(path.read_text())["images"] for text in row["sentences"]]
    nocaps = json.loads((tmp_path / "nocaps" / "nocaps_val_4500_captions.json").read_text())
    written += [row["caption"] for row in nocaps["annotations"]]
    missing = words(written) - words(list(sentences(300)))
    assert not missing
