"""Real captions with known scores: the caption cases of the truth folder's manifest."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TASK = "coco_captioning"


@dataclass(frozen=True)
class Case:
    """One case as its files have it, aligned by image.

    per_image: figures of each image by pycocoevalcap's names, where the case has them.
    """

    id: str
    images: list[Any]
    candidates: list[str]
    references: list[list[str]]
    tokenize: bool
    expected: dict[str, str]
    per_image: dict[Any, dict[str, float]]


def cases(truth: Path) -> dict[str, Case]:
    """All caption cases of a truth folder, by id."""
    manifest = json.loads((truth / "manifest.json").read_text())
    return {case["id"]: _read(case, truth) for case in manifest["cases"] if case["task"] == TASK}


def _read(case: dict[str, Any], truth: Path) -> Case:
    if "annotations" in case:
        references = _by_image(_load(truth / case["annotations"]))
        found = {image: texts[0] for image, texts in _by_image(_load(truth / case["predictions"])).items()}
        images = list(references)
        assert set(found) == set(images), case["id"]
        candidates = [found[image] for image in images]
    else:  # a file per list of texts, an image per line
        candidates = _lines(truth / case["predictions"])
        texts = [_lines(truth / name) for name in case["references"]]
        references = dict(enumerate(map(list, zip(*texts, strict=True))))
        images = list(references)
    per_image = _load(truth / case["per_image"]) if "per_image" in case else []
    return Case(
        id=case["id"],
        images=images,
        candidates=candidates,
        references=list(references.values()),
        tokenize=case.get("tokenize", True),
        expected=case["expected"],
        per_image={row["image_id"]: row for row in per_image},
    )


def _load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def _by_image(content: Any) -> dict[Any, list[str]]:
    """Texts by image of COCO annotations, COCO results, or a mapping from image to a text or texts."""
    rows = content.get("annotations", content) if isinstance(content, dict) else content
    if isinstance(rows, dict):
        return {image: [texts] if isinstance(texts, str) else texts for image, texts in rows.items()}
    found: dict[Any, list[str]] = {}
    for row in rows:
        found.setdefault(row["image_id"], []).append(row["caption"])
    return found
