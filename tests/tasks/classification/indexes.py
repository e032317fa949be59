"""Index files in the official form."""

from __future__ import annotations

import json
from pathlib import Path

import tasks

ADAPTER = tasks.get("imagenet")


def write_index(root: Path, split: str, *, slash: str = "") -> None:
    """The index of a split that lies there as class folders; `slash` is put before each path."""
    samples = ADAPTER.samples(root, split)
    lines = [json.dumps({"image_path": slash + s.id, "label": s.annotation["label"]}) for s in samples]
    (root / f"imagenet.{split}.index.jsonl").write_text("\n".join(lines) + "\n")
