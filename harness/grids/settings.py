"""Settings of a grid as the texts that recipes and backbones take, and as parts of an identity."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import backbones
from backbones.config import CHANGE
from harness import precision
from harness.hardware import Hardware
from tasks.recipe import Recipe


def texts(*settings: Mapping[str, Any]) -> list[str]:
    """Fields as `key=value` texts, those of later settings in place of earlier ones."""
    merged = {name: value for each in settings for name, value in each.items()}
    return [f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in merged.items()]


def of_recipe(recipe: Recipe) -> dict[str, Any]:
    """A recipe as a part of an identity: its name and every field that decides the result."""
    return {"name": recipe.name, **recipe.deciding()}


def of_backbone(name: str) -> dict[str, Any]:
    """A backbone as a part of an identity: its name and every field of its configuration."""
    if name.startswith(backbones.TIMM):
        return {"name": name}
    return {"name": name.partition(CHANGE)[0], **asdict(backbones.config(name))}


def of_machine(machine: Hardware, recipe: Recipe) -> dict[str, Any]:
    """Device class and precision as a part of an identity."""
    return {
        "device": machine.device_class,
        "train_precision": precision.training(recipe.precision, machine.kind, bf16=machine.bf16),
        "predict_precision": precision.prediction(recipe, machine.kind, bf16=machine.bf16),
    }
