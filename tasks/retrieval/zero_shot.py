"""Zero-shot retrieval: the test of a retrieval benchmark with weights that were not fine-tuned on it."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from backbones.errors import UsageError
from tasks.adapter import Sample
from tasks.retrieval.base import Retrieval, RetrievalRecipe

_ITC = "unilm beit3/README.md: the resolution of the released checkpoint beit3_{}_itc_patch16_224.pth"
_PAPER = "arXiv 2208.10442, Appendix A: the resolution of the contrastive training on the pretraining pairs"
_ONCE = "each image is encoded once, not once per caption, and recall counts ties by expectation"


def recipes(task: str) -> dict[str, RetrievalRecipe]:
    """Recipes that do not train, at the image size of the contrastive checkpoints."""
    return {
        "base": _recipe(f"beit3_base_{task}", _ITC.format("base"), micro_batch=64),
        "large": _recipe(f"beit3_large_{task}", _ITC.format("large"), micro_batch=32),
        "giant": _recipe(f"beit3_giant_{task}", _PAPER, micro_batch=16),
        "nano": _recipe(f"multiway_nano_{task}", "ours", image_size=64, micro_batch=64, deviations=()),
    }


def _recipe(
    name: str, source: str, *, micro_batch: int, image_size: int = 224, deviations: tuple[str, ...] = (_ONCE,)
) -> RetrievalRecipe:
    return RetrievalRecipe(
        name=name, source=source, deviations=deviations, image_size=image_size, batch_size=0, lr=0.0, drop_path=0.0,
        micro_batch=micro_batch,
    )  # fmt: skip


class ZeroShotRetrieval(Retrieval):
    """Retrieval without a training split."""

    fine_tuned: ClassVar[str]  # the task that trains on the same data

    def samples(self, root: Path, split: str) -> list[Sample]:
        if split == self.train_split:
            raise UsageError(
                f"{self.name} scores weights that never saw {self.dataset}, so it has no training split: leave --set "
                f"epochs=0. To fine-tune, take {self.fine_tuned}."
            )
        return super().samples(root, split)
