"""Real annotations of `shared/truth` under the names that the benchmarks give them."""

from __future__ import annotations

from pathlib import Path

PLACES = {
    "nlvr2": {
        "nlvr/nlvr2/data/dev.json": "nlvr2/dev.json",
        "nlvr/nlvr2/data/test1.json": "nlvr2/test1.json",
    },
    "vqav2": {
        "vqa/v2_OpenEnded_mscoco_val2014_questions.json": "vqa/vqav2sub_valid_questions.json",
        "vqa/v2_mscoco_val2014_annotations.json": "vqa/vqav2sub_valid_annotations.json",
    },
    "coco_detection": {"annotations/instances_val2017.json": "coco_det/instances_val2014_100.json"},
    "ade20k": {"annotations/validation": "ade20k/annotations", "images/validation": "ade20k/images"},
}


def folder(task: str, truth: Path, root: Path) -> Path:
    """A data folder of a task: links to the real files."""
    for place, file in PLACES[task].items():
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).symlink_to((truth / file).resolve())
    return root
