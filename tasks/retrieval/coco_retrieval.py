"""Image-text retrieval on COCO."""

from __future__ import annotations

from collections.abc import Mapping

from tasks.common import karpathy
from tasks.retrieval import recipes
from tasks.retrieval.base import Retrieval, SplitSize, splits_of
from tasks.retrieval.zero_shot import ZeroShotRetrieval

SIZES = {"train": SplitSize(113_287, 566_747), "val": SplitSize(5_000, 25_010), "test": SplitSize(5_000, 25_010)}


class _Coco(Retrieval):
    dataset = "COCO Captions (Karpathy split)"
    citation = "Chen et al., Microsoft COCO Captions: Data Collection and Evaluation Server, arXiv 1504.00325"
    folder = "coco"
    index = "coco_retrieval"
    karpathy_file = karpathy.COCO_FILE
    read_karpathy = staticmethod(karpathy.read_coco)


class CocoRetrieval(_Coco):
    """Karpathy's split of COCO, five captions and sometimes more an image, all of the 5,000 test images at once.

    Layout: `train2014/*.jpg`, `val2014/*.jpg` and `dataset_coco.json`.
    """

    name = "coco_retrieval"
    sizes = SIZES
    splits = splits_of(SIZES)
    recipes = recipes.COCO_RECIPES


class CocoZeroShot(_Coco, ZeroShotRetrieval):
    """The same test with weights that were not fine-tuned on COCO, such as the released `*_itc_*` checkpoints.

    In-domain weights (`*_indomain_*`) have seen COCO's training captions: with them it is not a zero-shot test.
    """

    name = "coco_zero_shot"
    fine_tuned = CocoRetrieval.name
    sizes: Mapping[str, SplitSize] = {name: count for name, count in SIZES.items() if name != "train"}
    splits = splits_of(sizes)
    recipes = recipes.zero_shot(name)
