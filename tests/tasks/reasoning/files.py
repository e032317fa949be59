"""NLVR2 annotations and images of noise, and index files in the official form."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

import tasks

ADAPTER = tasks.get("nlvr2")


DATA = "nlvr/nlvr2/data"


SENTENCES = ("The left image is redder.", "Both images are dark.")


def statements(root: Path, split: str, *, sets: int) -> Path:
    """Per set of images two pairs and two sentences, each sentence true of one pair, in the official layout."""
    rng = np.random.default_rng(0)
    file = {"test-P": "test1", "test-U": "test2"}.get(split, split)
    folder = "images/train" if split == "train" else file
    rows = []
    for number in range(sets):
        place = folder + (f"/{number % 3}" if split == "train" else "")
        (root / place).mkdir(parents=True, exist_ok=True)
        for pair in range(2):
            for side in range(2):
                pixels = rng.integers(0, 255, (20, 26, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / place / f"{file}-{number}-{pair}-img{side}.png")
            for sentence, text in enumerate(SENTENCES):
                row = {
                    "identifier": f"{file}-{number}-{pair}-{sentence}",
                    "sentence": text,
                    "label": str(pair == sentence),
                }
                rows.append(row | ({"directory": number % 3} if split == "train" else {}))
    (root / DATA).mkdir(parents=True, exist_ok=True)
    (root / DATA / f"{file}.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def write_index(root: Path, split: str) -> None:
    samples = ADAPTER.samples(root, split)
    with (root / f"nlvr2.{split}.index.jsonl").open("w") as file:
        for s in samples:
            row = {"image_path": s.inputs["images"][0], "image2_path": s.inputs["images"][1], "text_segment": [7, 8, 9]}
            file.write(json.dumps(row | {"label": s.annotation["label"], "identifier": s.id}) + "\n")


def labels(samples: list, wrong: set[str]) -> dict[str, dict]:
    """Predictions of the true labels, and of the opposite ones for the ids in `wrong`."""
    return {s.id: {"label": s.annotation["label"] ^ (s.id in wrong)} for s in samples}
