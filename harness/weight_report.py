"""Load weights into a task model and report which tensors the file had; prediction resizes nothing unasked."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from torch import nn

from backbones import weights
from backbones.errors import InputError
from backbones.released import PRETRAINED, released
from backbones.weights import LoadReport
from harness.progress import note
from tasks.recipe import Recipe


def load_to_train(model: nn.Module, path: Path, recipe: Recipe) -> None:
    """Load pretrained weights; the head keeps its initial weights where the file has none."""
    _report(weights.load(model, path, new_heads=True), model, path, recipe)


def load_to_predict(model: nn.Module, path: Path, recipe: Recipe, *, resize: bool) -> None:
    """Load the weights of backbone and head.

    Args:
        resize: whether positions may be interpolated to the recipe's image size, which the user asked for then.

    Raises:
        InputError: the file was made for another image size; the message has both ways out.
    """
    report = weights.load(model, path)
    if report.resized and not resize:
        raise InputError(_other_size(report, path, recipe))
    _report(report, model, path, recipe)
    if recipe.trains and released(path) in PRETRAINED:
        note(
            f"  {path.name} is a pretrained file, and nothing in it was fine-tuned for {recipe.name}: the score will "
            "not be a fine-tuned model's (`harness run` fine-tunes first)"
        )


def _other_size(report: LoadReport, path: Path, recipe: Recipe) -> str:
    resizing = f"--set image_size={recipe.image_size} asks for it and resizes them"
    if report.image_size in (None, recipe.image_size):
        names = ", ".join(report.resized[:3])
        return (
            f"{path} has another size of {names} than recipe {recipe.name} makes. Give the recipe and the --set fields "
            f"that the weights were fine-tuned with; or {resizing}."
        )
    return (
        f"{path} was made for images of {report.image_size} px, and recipe {recipe.name} predicts at "
        f"{recipe.image_size} px: the positions would be resized, and the score would not be that of these weights. "
        f"Predict at their own size with --set image_size={report.image_size}; or {resizing}."
    )


def _report(report: LoadReport, model: nn.Module, path: Path, recipe: Recipe) -> None:
    """Report which tensors were taken from a file, and which were not."""
    among = {*model.state_dict(), *report.ignored}
    note(f"{path.name}: {report.loaded} tensors loaded")
    resized = "resized"
    if report.image_size not in (None, recipe.image_size):
        resized += f" from {report.image_size} to {recipe.image_size} px"
    groups = {"freshly initialised": report.fresh, "not used": report.ignored, resized: report.resized}
    for text, names in groups.items():
        if names:
            modules = _modules(names, among)
            more = f" and {len(modules) - 6} more" if len(modules) > 6 else ""
            note(f"  {text} ({len(names)}): {', '.join(modules[:6])}{more}")


def _modules(names: Sequence[str], among: Collection[str]) -> list[str]:
    """Names of tensors, with a module's name in place of all its tensors: `head` for its weight and its bias."""
    others = {prefix for name in set(among).difference(names) for prefix in _prefixes(name)}
    largest = (next(prefix for prefix in _prefixes(name) if prefix not in others) for name in names)
    return list(dict.fromkeys(largest))


def _prefixes(name: str) -> list[str]:
    """Names of the modules that a tensor is in, outermost first, and its own name."""
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts) + 1)]
