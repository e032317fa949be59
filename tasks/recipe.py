"""Fine-tuning recipes: frozen values, each with its source, and changes to them by name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any, ClassVar, Literal, TypeVar, get_args, get_type_hints

from backbones.errors import UsageError, unknown
from tasks.recipe_values import USUAL, require_ranges, require_types

# How a run is spread over the machine; changing these leaves the mathematics of the recipe as it is. Not so
# `micro_batch` where `Recipe.split_alters`.
PLACEMENT = ("micro_batch", "workers", "checkpoint_activations", "shard", "compile")
# What a recipe says about itself; fixed, and without effect on the result.
DESCRIPTION = ("name", "source", "deviations")

USUAL_MIN_LR = 1e-6

R = TypeVar("R", bound="Recipe")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Fields of every fine-tuning recipe. Tasks add fields of their own.

    The defaults are those of the official fine-tuning code: AdamW without gradient clipping and without EMA, a
    cosine to 1e-6 after a linear warm-up from 0. Dense heads come with two other schedules: `poly` falls in a line
    to 0 (the usual one of semantic segmentation, power 1), `step` is divided by 10 at each of the milestones.
    """

    name: str
    source: str  # where the numbers are from
    deviations: tuple[str, ...] = ()  # differences to the source, a short phrase for each
    image_size: int  # pixels
    epochs: int = 0
    warmup_epochs: int = 0
    steps: int = 0  # the length in optimizer steps, for recipes that state it so, instead of epochs
    warmup_steps: int = 0
    schedule: Literal["cosine", "poly", "step"] = "cosine"
    milestones: tuple[float, ...] = ()  # of `step`, as shares of the length
    batch_size: int  # samples per optimizer step, over all processes and accumulation steps
    lr: float  # peak
    min_lr: float = USUAL_MIN_LR
    start_lr: float = 0.0
    layer_decay: float = 1.0
    head_lr_scale: float = 1.0  # for parameters whose name starts with "head"; only without layer decay
    low_lr_parts: tuple[str, ...] = ()  # parameters whose names start so learn as slowly as the embeddings; with decay
    weight_decay: float = 0.05
    decays: Literal["matrices", "detectron2", "all"] = "matrices"  # which parameters; see backbones.parameter_groups
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    drop_path: float = 0.1
    clip_grad: float | None = None  # largest gradient norm
    ema_decay: float | None = None  # of the averaged weights that are predicted with
    # auto: training in bf16 where the device computes in it, else in fp16 on a GPU and in fp32 on a CPU; prediction in
    # fp16 on a GPU and in fp32 on a CPU
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    micro_batch: int = 32  # samples per process at once; the rest of the batch is accumulated
    workers: int | None = None  # loader processes per process; None: by the cores (harness.cores.loader_workers)
    checkpoint_activations: bool = False
    shard: bool = False  # weights, gradients and optimizer state divided over the processes, instead of one of all each
    compile: bool = False  # torch.compile for the transformer's attention and feed-forward modules, in training
    validate: int = 0  # epochs (steps, where they are the length) between two scores during training; 0: none
    validate_limit: int | None = None  # samples of the validation split, evenly spaced; None: all
    keep: Literal["last", "best"] = "last"  # which weights are the result: the last, or those that validated best

    # Fields without effect on a prediction with given weights. Recipes with more of them add to these names.
    checks_overflow = True  # whether the task's model refuses features that are not finite, see `prediction_precision`

    # Intervals of numbers (`tasks.recipe_values`); recipes with more fields add to them.
    RANGES: ClassVar[Mapping[str, str]] = {
        "image_size": "[8, 8192]", "epochs": "[0, 1e5]", "warmup_epochs": "[0, 1e5]", "milestones": "(0, 1)",
        "batch_size": "[1, 1e7]", "micro_batch": "[1, 1e6]", "workers": "[0, 1024]", "lr": "(0, 100]",
        "min_lr": "[0, 100]", "start_lr": "[0, 100]", "layer_decay": "(0, 1]", "head_lr_scale": "[0, 1e4]",
        "weight_decay": "[0, 100]", "beta1": "[0, 1)", "beta2": "[0, 1)", "eps": "(0, 1]", "drop_path": "[0, 1)",
        "clip_grad": "(0, 1e6]", "ema_decay": "[0, 1)", "validate_limit": "[1, 1e9]", "max_tokens": "[3, 512]",
    }  # fmt: skip

    ONLY_TRAINING = (
        "epochs", "warmup_epochs", "steps", "warmup_steps", "schedule", "milestones", "batch_size", "lr", "min_lr",
        "start_lr", "layer_decay", "low_lr_parts", "head_lr_scale", "weight_decay", "decays", "beta1", "beta2", "eps",
        "drop_path", "clip_grad", "ema_decay", "validate", "validate_limit", "keep",
    )  # fmt: skip

    def __post_init__(self) -> None:
        require_types(self)
        for name in ("epochs", "warmup_epochs", "steps", "warmup_steps"):
            if getattr(self, name) < 0:
                raise UsageError(f"Recipe field {name} must not be less than 0, not {getattr(self, name)}.")
        for name in ("image_size", "micro_batch", *(("batch_size", "lr") if self.trains else ())):
            if getattr(self, name) <= 0:
                raise UsageError(f"Recipe field {name} must be more than 0, not {getattr(self, name)}.")
        if self.workers is not None and self.workers < 0:
            raise UsageError(f"Recipe field workers must not be less than 0, not {self.workers}.")
        if self.epochs and self.steps:
            raise UsageError(
                f"epochs={self.epochs} and steps={self.steps} are two lengths for one training. Set the other to 0: "
                "--set steps=0 or --set epochs=0."
            )
        for name, length in (("epochs", self.epochs), ("steps", self.steps)):
            # A warm-up in steps beside a length in epochs can only be compared once the data set is known.
            comparable = name == "epochs" or not self.epochs
            if comparable and getattr(self, f"warmup_{name}") > length:
                raise UsageError(
                    f"warmup_{name}={getattr(self, f'warmup_{name}')} is more than {name}={length}. "
                    f"Shorten the warm-up too: --set warmup_{name}=0."
                )
        if self.validate < 0 or (self.validate_limit is not None and self.validate_limit < 1):
            raise UsageError(
                f"Recipe field validate counts from 0 and validate_limit from 1, not {self.validate} and "
                f"{self.validate_limit}."
            )
        if self.keep == "best" and not self.validate:
            raise UsageError("The best weights are those that validated best: give --validate N beside --keep best.")
        if not all(0 < share < 1 for share in self.milestones):
            raise UsageError(
                f"Recipe field milestones has shares of the length, between 0 and 1: not {self.milestones}."
            )
        idle = () if self.trains else ("batch_size", "lr")
        require_ranges(self, {**self.RANGES, **dict.fromkeys(idle, USUAL)})
        if self.trains and self.schedule == "cosine" and self.min_lr > max(self.lr, USUAL_MIN_LR):
            raise UsageError(
                f"min_lr={self.min_lr} is more than lr={self.lr}, where the cosine begins. Lower it: --set min_lr=0."
            )

    @property
    def trains(self) -> bool:
        """True if anything is fine-tuned; without epochs and steps the given weights predict as they are."""
        return bool(self.epochs or self.steps)

    @property
    def split_alters(self) -> bool:
        """Dependence of the gradients on how a batch is split into micro-batches and over processes.

        There is one with batch statistics and with losses that are normalised within a micro-batch. Then `micro_batch`
        counts as what decides a result, and a training cannot be resumed with another number of processes.
        """
        return False

    def deciding(self) -> dict[str, Any]:
        """The fields that change the result, not only its placement on the machine, by name."""
        left_out = {*PLACEMENT, *DESCRIPTION} - ({"micro_batch"} if self.split_alters else set())
        left_out |= {"validate", "validate_limit"} if self.keep == "last" else set()
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name not in left_out}

    def predicting(self) -> dict[str, Any]:
        """The fields that shape a prediction with given weights, by name; a row has its precision beside them."""
        left_out = {*self.ONLY_TRAINING, "precision", "micro_batch"}
        return {name: value for name, value in self.deciding().items() if name not in left_out}

    def differs_from(self, other: Recipe) -> list[str]:
        """Names of the fields that change the result and have another value in `other`."""
        return [name for name, value in self.deciding().items() if value != getattr(other, name)]


def changed(recipe: R, assignments: Sequence[str]) -> R:
    """The recipe with `key=value` texts applied, each value read as the field's type.

    A new length brings what follows from it along, see `_length`.

    Raises:
        UsageError: a text without "=", an unknown key (with the nearest names) or a value of another type.
    """
    types = {key: kind for key, kind in _types(type(recipe)).items() if key not in DESCRIPTION}
    changes = {}
    for assignment in assignments:
        key, separator, text = assignment.partition("=")
        if not separator:
            raise UsageError(f"'{assignment}' is not of the form key=value, as in --set lr=1e-4.")
        if key not in types:
            raise unknown("recipe field", key, types)
        changes[key] = _parse(key, text, types[key])
    return replace(recipe, **_length(recipe, changes), **changes)


@cache
def _types(kind: type[Recipe]) -> dict[str, Any]:
    return get_type_hints(kind)


def _length(recipe: Recipe, changes: Mapping[str, Any]) -> dict[str, int]:
    """Values that a new length implies for the other fields about lengths, of those that `changes` leaves alone.

    A length in steps replaces one in epochs and vice versa, and `epochs=0` is no training. A warm-up
    that is in epochs where the length is in steps, or longer than the length, keeps its share of it; of one in steps
    beside a length in epochs no share is known, and a tenth is left.
    """
    implied = {}
    if changes.get("steps") and "epochs" not in changes:
        implied["epochs"] = 0
    elif "epochs" in changes and "steps" not in changes:
        implied["steps"] = 0
    length = {name: getattr(recipe, name) for name in ("epochs", "steps")} | implied
    length |= {name: changes[name] for name in length if name in changes}
    if {"warmup_epochs", "warmup_steps"} & set(changes):
        return implied
    if not any(length.values()):
        return implied | {"warmup_epochs": 0, "warmup_steps": 0}
    if recipe.warmup_epochs and length["steps"]:
        return implied | {"warmup_epochs": 0, "warmup_steps": length["steps"] * recipe.warmup_epochs // recipe.epochs}
    if recipe.warmup_epochs > length["epochs"]:
        return implied | {"warmup_epochs": length["epochs"] * recipe.warmup_epochs // recipe.epochs}
    if recipe.warmup_steps > length["steps"] > 0:
        share = recipe.warmup_steps / recipe.steps if recipe.steps else 0.1
        return implied | {"warmup_steps": int(length["steps"] * share)}
    return implied


def _parse(key: str, text: str, kind: Any) -> Any:
    """Read `text` as the type `kind`: str, a number, bool, a tuple of numbers, Literal, or one of them or None."""
    options = get_args(kind)
    if type(None) in options:
        if text.lower() == "none":
            return None
        kind = next(option for option in options if option is not type(None))
        options = get_args(kind)
    try:
        if kind is str or (options and all(isinstance(option, str) for option in options)):
            value: Any = text
        else:
            value = json.loads(text)
            if kind is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63:
                value = float(value)
            if isinstance(value, list):
                value = tuple(value)
    except (ValueError, RecursionError):
        raise UsageError(f"Recipe field {key} is a {_kind_name(kind)}; '{text}' is not one.") from None
    if options and isinstance(options[0], str) and value not in options:
        raise unknown(f"value of {key}", text, options)
    expected = tuple if options and not isinstance(options[0], str) else (str if options else kind)
    if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
        raise UsageError(f"Recipe field {key} is a {_kind_name(kind)}; '{text}' is not one.")
    return value


def _kind_name(kind: Any) -> str:
    return {"int": "whole number", "float": "number", "bool": "true or false"}.get(
        getattr(kind, "__name__", ""), str(kind)
    )
