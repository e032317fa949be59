"""COCO captioning on the Karpathy split."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tasks.adapter import CODALAB_MAX_BYTES, Sample, Split
from tasks.captioning.annotations import coco_samples
from tasks.captioning.base import Captioning
from tasks.captioning.recipes import COCO_RECIPES


class CocoCaptioning(Captioning):
    """BLEU, METEOR, ROUGE-L, CIDEr and SPICE on 5,000 images with five references each.

    Layouts: `dataset_coco.json` (Karpathy) with `train2014/` and `val2014/`; or the official index files
    `coco_captioning.{train,val,test}.jsonl`, which are used where it is absent, with `coco_karpathy_{val,test}_gt.json`
    for the references, which are enough to score; training captions also in shards `train-*.tar`, here or at an address
    (`tasks.common.shards`). The splits val2014 and test2014 are COCO's own
    (`annotations/captions_val2014.json`, `val2014/`; `annotations/image_info_test2014.json`, `test2014/`).
    """

    name = "coco_captioning"
    dataset = "COCO Captions (Karpathy split)"
    citation = "Chen et al., Microsoft COCO Captions, arXiv 1504.00325; split: Karpathy and Fei-Fei, arXiv 1412.2306"
    splits: Mapping[str, Split] = {
        "train": Split(size=566_747),
        "val": Split(size=5_000),
        "test": Split(size=5_000),
        "val2014": Split(size=40_504, optional=True),
        "test2014": Split(size=40_775, labels=False, server="COCO caption challenge", largest_file=CODALAB_MAX_BYTES),
    }
    recipes = COCO_RECIPES
    folder = "coco"
    eval_split = "test"
    validation_split = "val"

    def samples(self, root: Path, split: str) -> list[Sample]:
        self.split(split)
        return coco_samples(root, split)

    def _results_name(self, split: str) -> str:
        return f"captions_{split}"
