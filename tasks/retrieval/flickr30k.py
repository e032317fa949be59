"""Image-text retrieval on Flickr30K, fine-tuned and zero-shot."""

from __future__ import annotations

from collections.abc import Mapping

from tasks.common import karpathy
from tasks.retrieval import recipes
from tasks.retrieval.base import Retrieval, SplitSize, splits_of
from tasks.retrieval.zero_shot import ZeroShotRetrieval

SIZES = {"train": SplitSize(29_000, 145_000), "val": SplitSize(1_014, 5_070), "test": SplitSize(1_000, 5_000)}


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
    recipes = recipes.FLICKR30K_RECIPES


class Flickr30kZeroShot(_Flickr30k, ZeroShotRetrieval):
    """The same test with weights that never saw Flickr30K, such as the released `*_itc_*` checkpoints."""

    name = "flickr30k_zero_shot"
    fine_tuned = Flickr30kRetrieval.name
    sizes: Mapping[str, SplitSize] = {name: count for name, count in SIZES.items() if name != "train"}
    splits = splits_of(sizes)
    recipes = recipes.zero_shot(name)
