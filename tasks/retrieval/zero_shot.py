"""Zero-shot retrieval: the test of a retrieval benchmark with weights that were not fine-tuned on it."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from backbones.errors import UsageError
from tasks.adapter import Sample
from tasks.retrieval.base import Retrieval


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
