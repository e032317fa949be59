"""Ground floor: the Multiway transformer, its sizes and its weights, and timm models beside it.

import backbones
model = backbones.build("beit3_base_patch16_224", weights="beit3_base_patch16_224.pth")
model(image=image).tokens
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from backbones import opencv
from backbones.bundled import weights as bundled_weights
from backbones.config import CHANGE, CONFIGS, MultiwayConfig, config, family
from backbones.errors import InputError, UsageError

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "InputError",
    "MultiwayConfig",
    "UsageError",
    "build",
    "bundled_tokenizer",
    "bundled_weights",
    "config",
    "family",
    "names",
    "native_patch",
    "num_layers",
    "require",
    "skeleton",
]

TIMM = "timm/"

opencv.provide()  # every import of mmengine in this project comes after that of this package


def names() -> list[str]:
    """The Multiway backbones by name (timm models are `timm/<name>`)."""
    return list(CONFIGS)


def bundled_tokenizer(name: str) -> Path | None:
    """The tokenizer that ships with a backbone; None for those whose tokenizer comes with their weights."""
    base = name.partition(CHANGE)[0]
    path = Path(__file__).parent / f"{base}.spm"
    return path if base in CONFIGS and path.is_file() else None


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
        name: one of `names()`, with fields changed by `+field=value` behind it, or `timm/<name>`.
        weights: .safetensors, or an official .pth.
        image_size: pixels; other than the named one, the position table gets that size (and loaded tables
            are interpolated to it).
        options: fields of `MultiwayConfig` to change, such as `drop_path` or `final_norm`. Of these a timm model has
            `patch_size`, `drop_path` and `checkpoint_activations`, and it keeps its own final norm.

    Raises:
        UsageError: unknown name or option, or one that the backbone cannot honour.
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


def skeleton(name: str, *, image_size: int | None = None, **options: object) -> nn.Module:
    """A backbone without memory for its weights, to ask what it is like before anything is read.

    Args and errors: see `build`.
    """
    import torch

    with torch.device("meta"):
        return build(name, image_size=image_size, **options)


def num_layers(name: str) -> int:
    """Number of layers of a backbone."""
    return skeleton(name).num_layers if name.startswith(TIMM) else config(name).layers


def native_patch(name: str) -> int | None:
    """Pixels along a side of a backbone's patches as it was pretrained; None for one without patches."""
    return skeleton(name).patch_size if name.startswith(TIMM) else config(name).patch_size


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

    if options.get("window"):
        raise UsageError(
            f"timm/{name} has no window attention. Use --set window=0: every layer then attends to all patches, which "
            "needs more time and memory (--set checkpoint_activations=true)."
        )
    left_out = ("window", "global_layers", "final_norm")  # without windows all layers are global; timm norms as it does
    options = {option: value for option, value in options.items() if option not in left_out}
    if unfit := options.keys() - {"patch_size", "drop_path", "checkpoint_activations"}:
        raise UsageError(f"timm/{name} has no {' and no '.join(sorted(unfit))}: only Multiway backbones do.")
    return TimmBackbone(name, image_size=image_size, **options)
