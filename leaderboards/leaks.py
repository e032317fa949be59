"""Training data of weights, and whether a split that they are scored on was part of it.

Training data is named TASK:SPLIT, as in `vqav2:val`. `trained_on.csv` has it for released weights, by the name of the
file and, where known, its hash; other weights declare it (`--trained-on`), and fine-tuning adds its own.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable
from functools import cache
from pathlib import Path

from backbones.errors import UsageError

REGISTRY = Path(__file__).parent / "trained_on.csv"

# COCO's images of 2014: train2014, and val2014 in the three parts of the Karpathy split.
_RESTVAL, _VAL, _TEST = "val2014, restval", "val2014, Karpathy val", "val2014, Karpathy test"
_VAL2014 = frozenset({_RESTVAL, _VAL, _TEST})
_KARPATHY = {"train": frozenset({"train2014", _RESTVAL}), "val": frozenset({_VAL}), "test": frozenset({_TEST})}
# Images by task and split; splits of one task share none, so what they have in common here is between tasks.
_IMAGES = {
    **{
        (task, split): images
        for task in ("coco_captioning", "coco_retrieval", "coco_zero_shot")
        for split, images in _KARPATHY.items()
    },
    ("nocaps", "train"): _KARPATHY["train"],
    ("vqav2", "train"): frozenset({"train2014"}),
    ("vqav2", "val"): _VAL2014,
    ("vqav2", "rest_val"): _VAL2014,
    ("coco_detection", "train"): frozenset({"train2014"}) | _VAL2014,  # train2017: all but 5,000 images of val2014
    ("coco_detection", "val"): _VAL2014,  # val2017: those 5,000
}
_WITHIN = {("vqav2", "rest_val"): ("vqav2", "val")}  # splits that are a part of another
# What a zero-shot task must not have been trained on: its data set, under the names of its tasks.
_NOT_ZERO_SHOT = {
    "coco_zero_shot": ("coco_captioning", "coco_retrieval"),
    "flickr30k_zero_shot": ("flickr30k_retrieval",),
}


def declared(weights: str, sha256: str = "") -> tuple[str, ...]:
    """Training data of released weights, as TASK:SPLIT; nothing for weights that the registry does not know.

    Args:
        weights: name of the released file without its suffix; see `backbones.released`.
        sha256: of the file, which counts where the registry has one under that name.
    """
    known_sha256, trained_on = _registry().get(weights, ("", ()))
    return () if known_sha256 and sha256 and sha256 != known_sha256 else trained_on


@cache
def _registry() -> dict[str, tuple[str, tuple[str, ...]]]:
    with REGISTRY.open(newline="", encoding="utf-8") as file:
        return {row["weights"]: (row["sha256"], tuple(row["trained_on"].split())) for row in csv.DictReader(file)}


def parsed(declarations: Iterable[str], tasks: Collection[str]) -> tuple[str, ...]:
    """Declarations of a user, checked.

    Raises:
        UsageError: one without a colon, or of an unknown task.
    """
    found = tuple(dict.fromkeys(declarations))
    for each in found:
        task, colon, split = each.partition(":")
        if not colon or not split or task not in tasks:
            raise UsageError(
                f"--trained-on takes TASK:SPLIT with a task of `harness list tasks`, such as vqav2:val, not {each!r}."
            )
    return found


def overlap(task: str, split: str, trained_on: Collection[str]) -> str:
    """Why a score on this split is flattered by what the weights were trained on; empty where it is not known to be."""
    pairs = [tuple(each.partition(":")[::2]) for each in trained_on]
    whole = _WITHIN.get((task, split))
    if (task, split) in pairs or whole in pairs:
        return f"the weights were trained on {task} {split if (task, split) in pairs else whole[1]}"
    for other, part in pairs:
        if other in _NOT_ZERO_SHOT.get(task, ()) and part == "train":
            return f"not zero-shot: the weights were trained on {other} {part}"
    for other, part in pairs:
        # All BEiT-3 weights, those behind the published numbers too, saw these captions' images in pretraining.
        if (other, part) == ("coco_captioning", "train"):
            continue
        shared = _IMAGES.get((task, split), frozenset()) & _IMAGES.get((other, part), frozenset())
        if other != task and shared:
            return f"images of {task} {split} may have been in training, as {other} {part}"
    return ""
