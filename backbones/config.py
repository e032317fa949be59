"""The sizes of the Multiway transformer, as data. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args, get_type_hints

from backbones.errors import UsageError, unknown

DENSE_PATCH = 16  # pixels of a patch from which the heads of detection and segmentation make strides of 4 to 64
# Joins a name with fields that are changed: multiway_nano+experts=standard+attention=shared. They are those of the
# network itself; the others follow from the recipe.
CHANGE = "+"
CHANGEABLE = ("dim", "layers", "heads", "ffn_dim", "attention", "experts", "sub_ln", "vl_layers")
COARSEST_STRIDE = 32  # of the adapter and of the pyramids, before a detector's last subsampling


@dataclass(frozen=True, kw_only=True)
class MultiwayConfig:
    """Shape of one Multiway transformer.

    The released BEiT-3 base and large are `attention="decoupled", sub_ln=True` (every module once per
    modality). The giant of the paper (arXiv 2208.10442, Table 2) is `attention="shared", sub_ln=False,
    vl_layers=3`. `experts="standard"` gives every module one set of weights for all modalities: the
    "Standard Transformer" of the ablations.
    """

    image_size: int = 224  # pixels, square
    patch_size: int = 16  # pixels
    dim: int = 768
    layers: int = 12
    heads: int = 12
    ffn_dim: int = 3072
    vocab_size: int = 64010
    max_text_positions: int = 1024  # rows of the text position table; the first two are never used
    attention: Literal["shared", "decoupled"] = "decoupled"
    experts: Literal["multiway", "standard"] = "multiway"
    sub_ln: bool = True  # a LayerNorm before each output projection (Magneto)
    vl_layers: int = 0  # top layers whose vision-language expert takes every token of a pair
    final_norm: bool = True  # off for VQA and image classification, as in the official models
    layer_norm_eps: float = 1e-5
    drop_path: float = 0.0  # rate of the last layer; grows linearly from 0 at the first
    window: int = 0  # patches along a side of the windows that a detector's layers attend in; 0 = everywhere
    global_layers: tuple[int, ...] = ()  # layers that attend everywhere even so
    checkpoint_activations: bool = False

    def __post_init__(self) -> None:
        if self.image_size % self.patch_size:
            raise UsageError(
                f"Image size {self.image_size} is not a multiple of the patch size {self.patch_size}. "
                f"Use {round(self.image_size / self.patch_size) * self.patch_size}."
            )
        if self.dim % self.heads:
            raise UsageError(f"Width {self.dim} cannot be split into {self.heads} heads. Change dim or heads.")
        if self.experts == "standard" and (self.attention == "decoupled" or self.vl_layers):
            raise UsageError(
                "experts='standard' has one expert for all modalities: it goes with attention='shared' and vl_layers=0."
            )
        if self.window < 0 or not set(self.global_layers) <= set(range(self.layers)):
            raise UsageError(
                f"window={self.window} and global_layers={self.global_layers} do not fit {self.layers} layers: the "
                f"window is 0 or more, global layers are numbers from 0 to {self.layers - 1}."
            )
        if not 0 <= self.vl_layers <= self.layers:
            raise UsageError(f"vl_layers={self.vl_layers} does not fit into {self.layers} layers.")

    @property
    def grid(self) -> int:
        """Patches along one side of the image."""
        return self.image_size // self.patch_size


# The plain vision transformer that others pretrain. Its text side is a stub: tasks with text refuse it.
_VIT_BASE = MultiwayConfig(
    attention="shared", experts="standard", sub_ln=False, layer_norm_eps=1e-6, vocab_size=1, max_text_positions=3
)
_BASE = MultiwayConfig()
_LARGE = MultiwayConfig(dim=1024, layers=24, heads=16, ffn_dim=4096)
_GIANT = MultiwayConfig(
    patch_size=14, dim=1408, layers=40, heads=16, ffn_dim=6144, attention="shared", sub_ln=False, vl_layers=3
)
_NANO = MultiwayConfig(
    image_size=80, patch_size=16, dim=128, layers=6, heads=4, ffn_dim=512, vocab_size=2048, max_text_positions=130
)

CONFIGS: dict[str, MultiwayConfig] = {
    "multiway_nano": _NANO,
    **{f"beit3_base_patch16_{size}": replace(_BASE, image_size=size) for size in (224, 384, 480, 768)},
    **{f"beit3_large_patch16_{size}": replace(_LARGE, image_size=size) for size in (224, 384, 480, 768)},
    "beit3_giant_patch14_224": _GIANT,
    "vit_base_patch16_224": _VIT_BASE,
    "vit_large_patch16_224": replace(_VIT_BASE, dim=1024, layers=24, heads=16, ffn_dim=4096),
}


def config(name: str) -> MultiwayConfig:
    """The configuration of a named Multiway size, with the fields changed that are named behind it.

    Raises:
        UsageError: the name or a field is unknown (the message has the nearest ones), or a value does not fit.
    """
    base, *changes = name.split(CHANGE)
    if base not in CONFIGS:
        raise unknown("backbone", base, CONFIGS, hint="Any timm model is 'timm/<name>' (vision-only tasks).")
    return replace(CONFIGS[base], **dict(_field(change) for change in changes))


def _field(change: str) -> tuple[str, Any]:
    """The name and the value of a field from a text such as `layers=4`."""
    name, _, text = change.partition("=")
    if name not in CHANGEABLE:
        raise unknown("backbone field", name, CHANGEABLE)
    kind = get_type_hints(MultiwayConfig)[name]
    if options := get_args(kind):
        if text not in options:
            raise unknown(f"value of {name}", text, options)
        return name, text
    if kind is bool and text in ("true", "false"):
        return name, text == "true"
    if kind is int and text.isdecimal() and (int(text) or name == "vl_layers"):
        return name, int(text)
    raise UsageError(f"Backbone field {name} is {'true or false' if kind is bool else 'a whole number'}, not '{text}'.")


def with_fields(name: str, fields: Sequence[str]) -> str:
    """The name of a backbone with fields changed, of texts such as `layers=4`, in alphabetical order.

    A later text about a field takes the place of an earlier one, in the name too.
    """
    base, *before = name.split(CHANGE)
    last = {change.partition("=")[0]: change for change in (*before, *fields)}
    return CHANGE.join([base, *(last[key] for key in sorted(last))])


def family(name: str) -> str:
    """Recipe family of a backbone by the size in its name, a timm model too: 'nano', 'base', 'large' or 'giant'.

    A name without any of them, such as timm/resnet50 or timm/vit_huge_patch14_224, takes 'base'.
    """
    return next((size for size in ("nano", "large", "giant") if f"_{size}" in name), "base")
