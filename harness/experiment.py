"""Definition of a run: task, backbone, data and recipe, all resolved before anything starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import backbones
import tasks
from backbones.errors import InputError, UsageError
from backbones.files import require_weights
from backbones.tokenizer import Tokenizer
from harness.choice import agreed_size, choose
from harness.progress import note
from leaderboards import leaks
from tasks.adapter import Sample, TaskAdapter, TaskContext
from tasks.common.checking import read_labels, read_samples
from tasks.recipe import Recipe, changed

if TYPE_CHECKING:
    from mmengine.model import BaseModel

OFFICIAL_TOKENIZER = "beit3.spm"
LONGEST_NAME = 200  # characters of a run's folder
NO_WEIGHTS = "none"


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A run with all names and options resolved."""

    adapter: TaskAdapter
    backbone: str
    weights: Path | None
    tokenizer: Path | None  # for tasks with text
    data: Path  # the task's own folder
    recipe: Recipe
    altered: tuple[str, ...]  # recipe fields that differ from the named recipe
    by_hand: frozenset[str]  # recipe fields that were given, the recipe's own values too
    notices: tuple[str, ...]  # about the choice of the recipe and what follows from it, for the user
    splits: tuple[str, ...]  # to predict
    seed: int
    limit: int | None
    verify_images: bool
    dataset: str | None  # name of the data that was given
    trained_on: tuple[str, ...]  # TASK:SPLIT that the given weights have seen, as the user declares
    folder: Path

    def whole(self, split: str) -> Sequence[Sample]:
        """All samples of a split; read once on each node, so every process has to ask."""
        from harness.node_samples import once_per_node

        return once_per_node(lambda: read_samples(self.adapter, self.data, split))

    def samples(self, split: str) -> Sequence[Sample]:
        """The samples of a split, or `limit` of them; every process has to ask."""
        return limited(self.adapter, self.whole(split), self.limit)

    @cached_property
    def context(self) -> TaskContext:
        """Inputs of data sets and model; every process has to ask first, as one reads the labels for all.

        Raises:
            InputError: a tokenizer that cannot be read or does not belong to the backbone.
        """
        tokenizer = self.read_tokenizer()
        from harness import distributed  # imports PyTorch

        labels = distributed.decided(lambda: read_labels(self.adapter, self.data))
        return TaskContext(root=self.data, recipe=self.recipe, tokenizer=tokenizer, labels=labels)

    def require_context(self) -> None:
        """Read the labels and the tokenizer, so that from here on a single process may ask for the context.

        Raises:
            InputError: see `context`, or labels that cannot be read.
        """
        self.context  # noqa: B018  cached

    def read_tokenizer(self) -> Tokenizer | None:
        """Read the tokenizer; None for tasks without text.

        Raises:
            InputError: it cannot be read or does not belong to the backbone.
        """
        if self.tokenizer is None:
            return None
        tokenizer = Tokenizer(self.tokenizer)
        tokenizer.require_fit(backbones.config(self.backbone).vocab_size)
        return tokenizer

    def build_model(self) -> BaseModel:
        """Build the task model with random weights, which follow from the seed."""
        import torch

        options = backbone_options(self.adapter, self.backbone, self.recipe)
        native = backbones.native_patch(self.backbone)
        torch.manual_seed(self.seed)
        backbone = backbones.build(self.backbone, **options)
        if backbone.patch_size != native:
            note(
                f"{self.backbone}: patches of {native} pixels and their positions are resized to "
                f"{backbone.patch_size}, which the heads of {self.adapter.name} need"
            )
        return self.adapter.model(backbone, self.context)

    def identity(self, *, weights_sha256: str, tokenizer_sha256: str, stage: str) -> dict[str, Any]:
        """Everything besides the data that decides the result, JSON-able; it identifies the run's folder."""
        return {
            "command": stage,
            "task": self.adapter.name,
            "backbone": self.backbone,
            "weights": weights_sha256,
            "tokenizer": tokenizer_sha256,
            "seed": self.seed,
            "recipe name": self.recipe.name,
            **{f"recipe {name}": value for name, value in self.recipe.deciding().items()},
        }


def plan(
    task: str,
    *,
    backbone: str,
    data: str | Path,
    out: str | Path = "runs",
    weights: str | Path | None = None,
    tokenizer: str | Path | None = None,
    recipe: str | None = None,
    changes: Sequence[str] = (),
    split: str | Sequence[str] | None = None,
    seed: int = 0,
    limit: int | None = None,
    verify_images: bool = False,
    dataset: str | None = None,
    trained_on: Sequence[str] = (),
    name: str | None = None,
) -> Experiment:
    """Resolve names and options into an experiment.

    Args:
        task: see `tasks.get`.
        backbone: see `backbones.build`.
        data: the task's data folder, or one that holds it under its usual name.
        out: holds `results.csv` and one folder per run.
        weights: .safetensors or an official .pth; when not given, the file that is bundled with the backbone, if
            there is one; "none" for random values.
        tokenizer: sentencepiece model, for tasks with text; when not given, the bundled one of `multiway_nano`, else
            `beit3.spm` beside the weights or in the data folder.
        recipe: which of the task's recipes; see `choice.choose` for when it is not given.
        changes: `key=value` texts for recipe fields.
        split: one or several to predict; the task's usual one when not given.
        limit: take that many samples of each split, evenly spaced.
        verify_images: read all image files first; rows have the hash of their contents, which identifies a run's
            folder in place of the files' times.
        dataset: name of the data for the rows, where they are not the benchmark's own.
        trained_on: what the weights have seen, as TASK:SPLIT texts; see `leaderboards.leaks`.
        name: of the run's folder; backbone and seed when not given.

    Raises:
        UsageError: an unknown name, or an option that does not fit.
        InputError: there is no data folder or no weights file.
    """
    require_name(name)
    require_seed(seed)
    chosen = resolve(
        task,
        backbone=backbone,
        data=data,
        weights=weights,
        tokenizer=tokenizer,
        recipe=recipe,
        changes=changes,
        split=split,
        limit=limit,
    )
    adapter, altered = chosen.adapter, chosen.recipe
    skeleton = backbones.skeleton(backbone, **backbone_options(adapter, backbone, altered))
    adapter.require_backbone(skeleton, altered)
    folder_name = name or f"{backbone.replace('/', '-')}-seed{seed}"
    return Experiment(
        adapter=adapter,
        backbone=backbone,
        weights=chosen.weights,
        tokenizer=chosen.tokenizer,
        data=chosen.data,
        recipe=altered,
        altered=chosen.altered,
        by_hand=chosen.by_hand,
        notices=chosen.notices,
        splits=chosen.splits,
        seed=seed,
        limit=limit,
        verify_images=verify_images,
        dataset=dataset,
        trained_on=leaks.parsed(trained_on, tasks.names()),
        folder=Path(out) / adapter.name / folder_name,
    )


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """Choices that need neither PyTorch nor the data; fields as in `Experiment`."""

    adapter: TaskAdapter
    weights: Path | None
    tokenizer: Path | None
    data: Path
    recipe: Recipe
    altered: tuple[str, ...]
    by_hand: frozenset[str]
    notices: tuple[str, ...]
    splits: tuple[str, ...]


def resolve(
    task: str,
    *,
    backbone: str,
    data: str | Path,
    weights: str | Path | None = None,
    tokenizer: str | Path | None = None,
    recipe: str | None = None,
    changes: Sequence[str] = (),
    split: str | Sequence[str] | None = None,
    limit: int | None = None,
    weights_follow: bool = False,
) -> Resolved:
    """Resolve what needs neither PyTorch nor the data; arguments and errors as of `plan`.

    Args:
        weights_follow: there are no weights yet, but there will be.
    """
    adapter = tasks.get(task)
    timm = backbone.startswith(backbones.TIMM)
    if not timm:
        backbones.require(backbone)
    given = None if weights in (None, "", NO_WEIGHTS) else Path(weights)
    base, notices = choose(adapter, backbone=backbone, weights=given, given=recipe)
    altered = _changed(task, base, changes)
    if adapter.reads_text(altered) and timm:
        what = f"Task {task}" if adapter.needs_text else f"Recipe {altered.name}"
        raise UsageError(f"{what} needs a text encoder, which {backbone} lacks. Use a Multiway backbone.")
    if timm:
        backbones.require(backbone)  # imports timm, and PyTorch with it
    bundled = None if weights or weights_follow else backbones.bundled_weights(backbone, adapter.begins_with(altered))
    weights = given or bundled
    by_hand = frozenset(change.partition("=")[0] for change in changes)
    notices += agreed_size(backbone, altered, by_hand="image_size" in by_hand, recipes=adapter.recipes)
    notices += _implied(altered, [name for name in altered.differs_from(base) if name not in by_hand])
    splits = _splits(adapter, split)
    require_limit(limit)
    require_folder(Path(data))
    folder = adapter.data_folder(Path(data))
    if bundled:
        notices += (f"Begins with the bundled {weights.name} (--weights none: with random values)",)
    elif weights is not None:
        require_weights(weights)
    elif weights_follow:
        pass
    elif altered.trains:
        notices += (f"Without weights: {backbone} is fine-tuned from random values",)
    else:
        raise UsageError(f"Recipe {altered.name} does not fine-tune: {task} needs --weights with backbone and head.")
    return Resolved(
        adapter=adapter,
        weights=weights,
        tokenizer=_tokenizer(adapter, backbone, tokenizer, weights, folder) if adapter.reads_text(altered) else None,
        data=folder,
        recipe=altered,
        altered=tuple(altered.differs_from(base)),
        by_hand=by_hand,
        notices=notices,
        splits=splits,
    )


def require_name(name: str | None) -> None:
    """Check the name of a run's folder, which stays under --out.

    Raises:
        UsageError: it does not, or no folder can have it.
    """
    if name is None:
        return
    parts = PurePath(name).parts
    if not parts or ".." in parts or PurePath(name).is_absolute() or not name.isprintable() or len(name) > LONGEST_NAME:
        raise UsageError(
            f"--name is the name of a folder under --out, of at most {LONGEST_NAME} characters, not {name!r:.60}. Give "
            "--out to write elsewhere."
        )


def require_seed(seed: int) -> None:
    """Check the seed of a run.

    Raises:
        UsageError: it is no whole number of 32 bits.
    """
    if type(seed) is not int or not 0 <= seed < 1 << 32:
        raise UsageError(f"--seed is a whole number from 0 to {(1 << 32) - 1:,}, not {seed!r:.60}.")


def require_limit(limit: int | None) -> None:
    """Check a number of samples.

    Raises:
        UsageError: it is none.
    """
    if limit is not None and (type(limit) is not int or limit < 1):
        raise UsageError(f"--limit is a number of samples from 1, not {limit!r:.60}.")


def require_folder(data: Path) -> None:
    """Check that there is a data folder.

    Raises:
        InputError: there is none.
    """
    if not data.is_dir():
        raise InputError(
            f"There is no folder {data}. --data is the task's data folder, or the one above it; "
            f"`harness toy {data}` draws a practice set there."
        )


def _changed(task: str, base: Recipe, changes: Sequence[str]) -> Recipe:
    """The recipe with changes; for one that does not fine-tune, an error that says so where a length was given."""
    try:
        return changed(base, changes)
    except UsageError as error:
        lengths = [change for change in changes if change.partition("=")[0] in ("epochs", "steps")]
        if base.trains or not lengths:
            raise
        raise UsageError(
            f"Task {task} does not fine-tune with recipe {base.name}: the given weights predict as they are. Leave out "
            f"--set {' --set '.join(lengths)}."
        ) from error


def backbone_options(adapter: TaskAdapter, backbone: str, recipe: Recipe) -> dict[str, Any]:
    """Options of `backbones.build` that a recipe and its task ask for."""
    return {
        "image_size": recipe.image_size,
        "drop_path": recipe.drop_path,
        "checkpoint_activations": recipe.checkpoint_activations,
        **adapter.backbone_options(recipe, layers=backbones.num_layers(backbone)),
    }


def _splits(adapter: TaskAdapter, given: str | Sequence[str] | None) -> tuple[str, ...]:
    names = (given or adapter.eval_split,) if given is None or isinstance(given, str) else tuple(dict.fromkeys(given))
    for name in names:
        adapter.split(name)
    return names or (adapter.eval_split,)


def _tokenizer(adapter: TaskAdapter, backbone: str, given: str | Path | None, weights: Path | None, data: Path) -> Path:
    if given is not None:
        return Path(given)
    usual = [backbones.bundled_tokenizer(backbone), data / OFFICIAL_TOKENIZER, data.parent / OFFICIAL_TOKENIZER]
    if weights is not None:
        usual.insert(1, weights.parent / OFFICIAL_TOKENIZER)
    for path in usual:
        if path is not None and path.is_file():
            return path
    raise UsageError(
        f"Task {adapter.name} needs the tokenizer that belongs to {backbone}: give --tokenizer {OFFICIAL_TOKENIZER}, "
        f"or put {OFFICIAL_TOKENIZER} beside the weights or into {data}."
    )


def _implied(recipe: Recipe, names: Sequence[str]) -> tuple[str, ...]:
    """Notice of fields that follow from a new length."""
    values = ", ".join(f"{name}={getattr(recipe, name)}" for name in names)
    return (f"The length given implies {values}",) if names else ()


def limited(adapter: TaskAdapter, samples: Sequence[Sample], limit: int | None) -> Sequence[Sample]:
    """All samples, or `limit` of them as the task chooses."""
    return samples if limit is None or limit >= len(samples) else adapter.limited(samples, limit)
