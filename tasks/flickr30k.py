"""Image-text retrieval on Flickr30K, fine-tuned and zero-shot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from backbones.errors import UsageError
from tasks import coco_retrieval, karpathy
from tasks.adapter import Sample
from tasks.retrieval import Count, Retrieval, RetrievalRecipe, splits_of

SIZES = {"train": Count(29_000, 145_000), "val": Count(1_014, 5_070), "test": Count(1_000, 5_000)}

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


def _without_training(name: str, source: str, *, image_size: int, micro_batch: int) -> RetrievalRecipe:
    return RetrievalRecipe(
        name=name, source=source, image_size=image_size, epochs=0, warmup_epochs=0, batch_size=0, lr=0.0,
        drop_path=0.0, micro_batch=micro_batch,
    )  # fmt: skip


_ITC = "the resolution of the released checkpoint beit3_{}_itc_patch16_224"
ZERO_SHOT_RECIPES = {
    "base": _without_training("beit3_base_flickr30k_zero_shot", _ITC.format("base"), image_size=224, micro_batch=64),
    "large": _without_training("beit3_large_flickr30k_zero_shot", _ITC.format("large"), image_size=224, micro_batch=32),
    "giant": _without_training(
        "beit3_giant_flickr30k_zero_shot",
        "arXiv 2208.10442, Appendix A: the resolution of the contrastive training on the pretraining pairs",
        image_size=224,
        micro_batch=16,
    ),
    "nano": _without_training("multiway_nano_flickr30k_zero_shot", "ours", image_size=64, micro_batch=64),
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


class Flickr30kZeroShot(_Flickr30k):
    """The same test with weights that never saw Flickr30K, such as the released `*_itc_*` checkpoints."""

    name = "flickr30k_zero_shot"
    sizes: Mapping[str, Count] = {name: count for name, count in SIZES.items() if name != "train"}
    splits = splits_of(sizes)
    recipes = ZERO_SHOT_RECIPES

    def samples(self, root: Path, split: str) -> list[Sample]:
        if split == self.train_split:
            raise UsageError(
                f"{self.name} scores weights that never saw Flickr30K, so it has no training split: leave --set "
                "epochs=0. To fine-tune, take flickr30k_retrieval."
            )
        return super().samples(root, split)
