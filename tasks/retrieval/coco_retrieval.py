"""Image-text retrieval on COCO."""

from __future__ import annotations

from collections.abc import Mapping

from tasks.common import deviations, karpathy
from tasks.retrieval import zero_shot
from tasks.retrieval.base import Retrieval, RetrievalRecipe, SplitSize, splits_of
from tasks.retrieval.zero_shot import ZeroShotRetrieval

_OFFICIAL = "unilm beit3/get_started/get_started_for_retrieval.md and the code's defaults"
RECIPES = {
    # 192 pairs on each of 16 GPUs, 96 on each of 32.
    "base": RetrievalRecipe(
        name="beit3_base_coco_retrieval", source=_OFFICIAL, image_size=384, epochs=15, warmup_epochs=3,
        batch_size=3072, lr=2e-4, layer_decay=0.65, weight_decay=0.05, drop_path=0.2, micro_batch=192,
        checkpoint_activations=True, deviations=deviations.OFFICIAL,
    ),
    "large": RetrievalRecipe(
        name="beit3_large_coco_retrieval", source=_OFFICIAL, image_size=384, epochs=15, warmup_epochs=3,
        batch_size=3072, lr=5e-5, layer_decay=0.85, weight_decay=0.05, drop_path=0.2, micro_batch=96,
        checkpoint_activations=True, deviations=deviations.OFFICIAL,
    ),
    "giant": RetrievalRecipe(
        name="beit3_giant_coco_retrieval", source="arXiv 2208.10442, Table 14, COCO column", image_size=420, epochs=15,
        warmup_epochs=3, batch_size=3072, lr=1e-5, layer_decay=0.95, weight_decay=0.05, drop_path=0.3, micro_batch=48,
        checkpoint_activations=True,
        deviations=(
            *deviations.PAPER, "the paper's batch of 3k is 3,072",
            "no contrastive training on the pretraining pairs goes before, unless the weights had it",
        ),
    ),
    "nano": RetrievalRecipe(
        name="multiway_nano_coco_retrieval", source="ours, for two laptop cores and the toy data", image_size=64,
        epochs=3, warmup_epochs=1, batch_size=64, lr=1e-3, layer_decay=1.0, weight_decay=0.05, drop_path=0.0,
        clip_grad=3.0, micro_batch=64, workers=1,
    ),
}  # fmt: skip
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
    recipes = RECIPES


class CocoZeroShot(_Coco, ZeroShotRetrieval):
    """The same test with weights that were not fine-tuned on COCO, such as the released `*_itc_*` checkpoints.

    In-domain weights (`*_indomain_*`) have seen COCO's training captions: with them it is no zero-shot test.
    """

    name = "coco_zero_shot"
    fine_tuned = CocoRetrieval.name
    sizes: Mapping[str, SplitSize] = {name: count for name, count in SIZES.items() if name != "train"}
    splits = splits_of(sizes)
    recipes = zero_shot.recipes(name)
