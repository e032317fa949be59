"""Checks, before a run, for obstacles that would stop it after hours: scoring tools, tokenizer, batch, disk space."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import backbones
from backbones.errors import InputError, UsageError
from harness import distributed
from harness.batch import accumulation
from harness.experiment import Experiment
from harness.progress import note
from harness.workdir import CHECKPOINTS, SHARDED, fine_tuned
from tasks.adapter import Sample, TaskAdapter

FLOAT = 4  # bytes
# Copies of the weights at the fullest moment, while a checkpoint is replaced by the next: the weights and AdamW's two
# moments in each; averaged weights too where the recipe has them.
CHECKPOINT_COPIES = 2 * 3
EMA_COPIES = 2


def require(experiment: Experiment, *, whole: bool, scores: bool) -> None:
    """Check everything that needs no data, before the data are read and the folder is made.

    Args:
        whole: whether the run fine-tunes, and does not only predict.
        scores: whether the predictions are scored too.

    Raises:
        InputError: a tool or a tokenizer is missing or wrong.
        UsageError: a batch that cannot be split among these processes.
    """
    adapter = experiment.adapter
    experiment.read_tokenizer()
    if whole and experiment.recipe.trains and not distributed.decided(fine_tuned(experiment.folder).exists):
        accumulation(experiment.recipe, processes=distributed.world_size())
    if scores and any(adapter.split(split).labels for split in experiment.splits):
        for obstacle in distributed.decided(adapter.scoring_obstacles):
            note(f"{adapter.name}: {obstacle}")


def require_space(experiment: Experiment, *, samples: int, whole: bool = True) -> None:
    """Check that there is disk space for checkpoints and predictions; the main process decides.

    Args:
        samples: number of samples to predict.
        whole: see `require`.

    Raises:
        InputError: the disk of the run's folder has less free.
    """
    distributed.decided(lambda: _require_space(experiment, samples, whole))


def _require_space(experiment: Experiment, samples: int, whole: bool) -> None:
    missing = needed(experiment, samples=samples, whole=whole)
    if not fine_tuned(experiment.folder).exists():  # an interrupted run's checkpoint is replaced
        checkpoints = [*experiment.folder.rglob("*.pth"), *experiment.folder.glob(f"{CHECKPOINTS}/{SHARDED}/*")]
        missing -= sum(file.stat().st_size for file in checkpoints)
    existing = next(folder for folder in _with_parents(experiment.folder) if folder.exists())
    free = shutil.disk_usage(existing).free
    if missing > free:
        raise InputError(
            f"The run in {experiment.folder} needs about {missing / 2**30:,.2f} GiB for checkpoints and predictions, "
            f"and {free / 2**30:,.2f} GiB are free there. Free some space, or give an --out on another disk."
        )


def needed(experiment: Experiment, *, samples: int, whole: bool = True) -> int:
    """Peak disk space of a run in bytes: while it fine-tunes, or while its predictions are merged."""
    predictions = 2 * samples * experiment.adapter.record_bytes
    if not whole or not experiment.recipe.trains or fine_tuned(experiment.folder).exists():
        return predictions
    skeleton = backbones.skeleton(experiment.backbone)
    weights = FLOAT * sum(parameter.numel() for parameter in skeleton.parameters())
    copies = CHECKPOINT_COPIES + (EMA_COPIES if experiment.recipe.ema_decay else 0)
    return max(copies * weights, weights + predictions)


def _with_parents(folder: Path) -> list[Path]:
    absolute = folder.absolute()
    return [absolute, *absolute.parents]


def require_no_leak(experiment: Experiment, split: str, *, train: Sequence[Sample], test: Sequence[Sample]) -> None:
    """Refuse to score training samples, unless the training split itself was asked for.

    Raises:
        UsageError: training samples in the split.
    """
    adapter = experiment.adapter
    if split == adapter.train_split:
        return
    if shared := distributed.decided(lambda: _shared(adapter, train, test)):
        raise UsageError(
            f"{len(shared):,} of the {len(test):,} samples of {adapter.name}'s split {split} are in its "
            f"training split too, such as {shared[0]}: the score would be meaningless. Use --split "
            f"{adapter.eval_split}, or predict with weights that were trained on other data (`harness predict`)."
        )


def require_unseen(
    experiment: Experiment, split: str, *, train: Sequence[Sample], validation: Sequence[Sample]
) -> None:
    """Refuse to validate on training samples.

    Raises:
        UsageError: training samples in the split.
    """
    if shared := distributed.decided(lambda: _shared(experiment.adapter, train, validation)):
        raise UsageError(f"{shared[0]} is in the training split and in the validation split {split}.")


def _shared(adapter: TaskAdapter, train: Sequence[Sample], test: Sequence[Sample]) -> list[str]:
    """Ids of test samples that are in the training set too; only the smaller of the two sets is held in memory."""
    tested = {adapter.source(sample) for sample in test}
    trained = {source for source in (adapter.source(sample) for sample in train) if source in tested}
    return [sample.id for sample in test if adapter.source(sample) in trained] if trained else []
