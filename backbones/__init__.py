"""Ground floor: the Multiway transformer, its sizes and its weights, and timm models beside it.

import backbones
model = backbones.build("beit3_base_patch16_224", weights="beit3_base_patch16_224.pth")
model(image=image).tokens
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from backbones.config import CONFIGS, MultiwayConfig, config, family
from backbones.errors import InputError, UsageError

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "InputError",
    "MultiwayConfig",
    "UsageError",
    "build",
    "bundled_tokenizer",
    "config",
    "family",
    "names",
    "require",
]

TIMM = "timm/"


def names() -> list[str]:
    """The Multiway backbones by name (timm models are `timm/<name>`)."""
    return list(CONFIGS)


def bundled_tokenizer(name: str) -> Path | None:
    """The tokenizer that ships with a backbone; None for those whose tokenizer comes with their weights."""
    path = Path(__file__).parent / f"{name}.spm"
    return path if name in CONFIGS and path.is_file() else None


def require(name: str) -> None:
    """Check that there is a backbone of this name.

    Raises:
        UsageError: there is none; the message has the nearest names.
    """
    if name.startswith(TIMM):
        from backbones.timm_backbone import require_model

        require_model(name.removeprefix(TIMM))
    else:
        config(name)


def build(
    name: str,
    *,
    weights: str | Path | None = None,
    image_size: int | None = None,
    **options: object,
) -> nn.Module:
    """A backbone by name, with weights when a file is given, else randomly initialised.

    Args:
        name: one of `names()`, or `timm/<name>`.
        weights: .safetensors, or an official .pth.
        image_size: pixels; other than the named one, the position table gets that size (and loaded tables
            are interpolated to it).
        options: fields of `MultiwayConfig` to change, such as `drop_path` or `final_norm`.

    Raises:
        UsageError: unknown name or option.
        InputError: weights that cannot be read or do not fit.
    """
    from backbones.weights import load

    if name.startswith(TIMM):
        model = _build_timm(name.removeprefix(TIMM), image_size, options)
    else:
        model = _build_multiway(resolve(name, image_size=image_size, **options))
    if weights is not None:
        load(model, weights)
    return model


def resolve(name: str, *, image_size: int | None = None, **options: object) -> MultiwayConfig:
    """The configuration of a named Multiway backbone with some fields changed."""
    changes = dict(options, image_size=image_size) if image_size else options
    return replace(config(name), **changes)


def _build_multiway(config: MultiwayConfig) -> nn.Module:
    if config.window:
        from backbones.windowed import WindowedMultiway

        return WindowedMultiway(config)
    from backbones.multiway import Multiway

    return Multiway(config)


def _build_timm(name: str, image_size: int | None, options: dict) -> nn.Module:
    from backbones.timm_backbone import TimmBackbone

    # Options about experts and norms have no meaning for other architectures.
    return TimmBackbone(name, image_size=image_size, drop_path=options.get("drop_path", 0.0))
