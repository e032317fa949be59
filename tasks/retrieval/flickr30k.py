"""Image-text retrieval on Flickr30K, fine-tuned and zero-shot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tasks.common import karpathy
from tasks.retrieval import coco_retrieval, zero_shot
from tasks.retrieval.base import Retrieval, SplitSize, splits_of
from tasks.retrieval.zero_shot import ZeroShotRetrieval

SIZES = {"train": SplitSize(29_000, 145_000), "val": SplitSize(1_014, 5_070), "test": SplitSize(1_000, 5_000)}

# What differs from COCO: longer, and for base at half the rate.
_LONGER = {"epochs": 20, "warmup_epochs": 5}
RECIPES = {
    "base": replace(coco_retrieval.RECIPES["base"], name="beit3_base_flickr30k_retrieval", lr=1e-4, **_LONGER),
    "large": replace(coco_retrieval.RECIPES["large"], name="beit3_large_flickr30k_retrieval", **_LONGER),
    "giant": replace(
        coco_retrieval.RECIPES["giant"],
        name="beit3_giant_flickr30k_retrieval",
        source="arXiv 2208.10442, Table 14, Flickr30K column",
        **_LONGER,
    ),
    "nano": replace(coco_retrieval.RECIPES["nano"], name="multiway_nano_flickr30k_retrieval", epochs=4),
}


class _Flickr30k(Retrieval):
    dataset = "Flickr30K (Karpathy split)"
    citation = "Young et al., From image descriptions to visual denotations, TACL 2014"
    folder = "flickr30k"
    index = "flickr30k"
    karpathy_file = karpathy.FLICKR30K_FILE
    read_karpathy = staticmethod(karpathy.read_flickr30k)


class Flickr30kRetrieval(_Flickr30k):
    """Karpathy's split of Flickr30K, five captions an image, all of the 1,000 test images at once.

    Layout: `flickr30k-images/*.jpg` and `dataset_flickr30k.json`.
    """

    name = "flickr30k_retrieval"
    sizes = SIZES
    splits = splits_of(SIZES)
    recipes = RECIPES


class Flickr30kZeroShot(_Flickr30k, ZeroShotRetrieval):
    """The same test with weights that never saw Flickr30K, such as the released `*_itc_*` checkpoints."""

    name = "flickr30k_zero_shot"
    fine_tuned = Flickr30kRetrieval.name
    sizes: Mapping[str, SplitSize] = {name: count for name, count in SIZES.items() if name != "train"}
    splits = splits_of(sizes)
    recipes = zero_shot.recipes(name)
