"""The effective batch in parts: how it is split over processes and micro-batches, and one that fits few samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from backbones.errors import UsageError
from harness.experiment import Experiment
from tasks.recipe import Recipe


def accumulation(recipe: Recipe, *, processes: int) -> int:
    """Batches per optimizer step, so that the effective batch is the recipe's.

    Raises:
        UsageError: the batch cannot be split that way.
    """
    at_once = recipe.micro_batch * processes
    if recipe.batch_size % at_once:
        largest = min(recipe.micro_batch, recipe.batch_size // processes)
        fitting = [size for size in range(1, largest + 1) if recipe.batch_size % (size * processes) == 0]
        options = _options({"micro_batch": fitting[-1]}) if fitting else ()
        advice = f"Use {' '.join(options)}." if fitting else "Change the number of processes."
        raise UsageError(
            f"The batch of {recipe.batch_size} is not a multiple of {recipe.micro_batch} samples × {processes} "
            f"process(es). {advice}",
            options=options,
        )
    return recipe.batch_size // at_once


def require_enough(recipe: Recipe, *, samples: int, processes: int) -> None:
    """Check that the training samples fill a batch.

    Raises:
        UsageError: they do not; the message has a batch that they fill.
    """
    if samples >= recipe.batch_size:
        return
    sizes = _largest(recipe, samples=samples, processes=processes)
    options = _options(sizes) if sizes else ()
    advice = f"Use {' '.join(options)}." if sizes else "Start fewer processes."
    raise UsageError(
        f"One batch of {recipe.batch_size} is more than the {samples:,} training samples. {advice}", options=options
    )


def fitted(experiment: Experiment, *, samples: int, processes: int) -> tuple[Experiment, str]:
    """The experiment with a batch that `samples` training samples fill, and a notice of what changed.

    A batch that fits is left as it is, and so is one that was given by hand.
    """
    recipe = experiment.recipe
    if not recipe.trains or samples >= recipe.batch_size or "batch_size" in experiment.by_hand:
        return experiment, ""
    sizes = _largest(recipe, samples=samples, processes=processes)
    if not sizes:
        return experiment, ""
    changed = replace(recipe, **sizes)
    altered = dict.fromkeys([*experiment.altered, *changed.differs_from(recipe)])
    values = " and ".join(f"{name}={value} (not {getattr(recipe, name)})" for name, value in sizes.items())
    return (
        replace(experiment, recipe=changed, altered=tuple(altered)),
        f"Batch fitted to {samples:,} training samples: {values}",
    )


def _largest(recipe: Recipe, *, samples: int, processes: int) -> dict[str, int]:
    """Sizes of the largest batch that fits; empty where there are fewer samples than processes.

    The micro-batch stays where a batch of them fits, and stays even where it was: mixup mixes pairs.
    """
    micro = min(recipe.micro_batch, samples // processes)
    if micro > 1 and recipe.micro_batch % 2 == 0:
        micro -= micro % 2
    if not micro:
        return {}
    sizes = {"batch_size": samples // (micro * processes) * micro * processes, "micro_batch": micro}
    return {name: size for name, size in sizes.items() if size != getattr(recipe, name)}


def _options(sizes: Mapping[str, int]) -> tuple[str, ...]:
    return tuple(part for name, size in sizes.items() for part in ("--set", f"{name}={size}"))
