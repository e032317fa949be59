"""The tensors of ViT-Adapter's released segmenters (BEiT with adapter, Mask2Former) under the names of ours.

Source of the names: czczup/ViT-Adapter, segmentation/mmseg_custom, written by mmcv 1.x and mmdet 2.x. The backbone is
timm's BEiT, whose layers have the same names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

# One of each in every such file, and in no other that we know of.
SIGNS = ("backbone.interactions.0.injector.gamma", "decode_head.query_feat.weight")

STEM = {"0": "0.0", "1": "0.1", "3": "1.0", "4": "1.1", "6": "2.0", "7": "2.1"}  # a ReLU behind each pair
EXTRACTOR = {
    "query_norm": "cross.query_norm", "feat_norm": "cross.value_norm", "attn": "cross.attention", "ffn_norm": "norm",
    "ffn.fc1": "fc1", "ffn.fc2": "fc2", "ffn.dwconv.dwconv": "depthwise",
}  # fmt: skip
INJECTOR = {"query_norm": "injector.query_norm", "feat_norm": "injector.value_norm", "attn": "injector.attention"}
# Derived from the window's size, or of no use after training.
LEFT_OUT = re.compile(r"relative_position_index$|^decode_head\.conv_seg\.|^auxiliary_head\.")


def is_official(names: Iterable[str]) -> bool:
    """True for the names of a file of ViT-Adapter's with Mask2Former."""
    return set(SIGNS) <= set(names)


def own_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under our names; names that are not theirs stay."""
    return {own_name(name): tensor for name, tensor in state.items() if not LEFT_OUT.search(name)}


def own_name(name: str) -> str:
    """Our name of a tensor of theirs; another name as it is."""
    module, _, rest = name.partition(".")
    if module == "decode_head":
        return f"head.{_head(rest)}"
    return _backbone(rest) if module == "backbone" else name


def _backbone(name: str) -> str:
    module, _, rest = name.partition(".")
    if module == "spm":
        return f"adapter.prior.{_prior(rest)}"
    if module == "interactions":
        stage, _, inside = rest.partition(".")
        return f"adapter.stages.{stage}.{_interaction(inside)}"
    if module.startswith("norm"):
        return f"adapter.norms.{int(module.removeprefix('norm')) - 1}.{rest}"
    if module in ("up", "level_embed"):
        return f"adapter.{name}"
    return f"beit3.model.{name}"


def _prior(name: str) -> str:
    module, _, rest = name.partition(".")
    if module == "stem":
        number, _, tensor = rest.partition(".")
        return f"stem.{STEM[number]}.{tensor}"
    if module.startswith("conv"):
        return f"downs.{int(module.removeprefix('conv')) - 2}.{rest}"
    return f"projections.{int(module.removeprefix('fc')) - 1}.{rest}"


def _interaction(name: str) -> str:
    module, _, rest = name.partition(".")
    if module == "injector":
        return "scale" if rest == "gamma" else _renamed(rest, INJECTOR)
    number = 0
    if module == "extra_extractors":
        index, _, rest = rest.partition(".")
        number = int(index) + 1
    return f"extractors.{number}.{_renamed(rest, EXTRACTOR)}"


def _renamed(name: str, modules: Mapping[str, str]) -> str:
    """A name whose module is replaced by what it is called here."""
    module, _, tensor = name.rpartition(".")
    while module and module not in modules:
        module, _, last = module.rpartition(".")
        tensor = f"{last}.{tensor}"
    return f"{modules[module]}.{tensor}"


def _head(name: str) -> str:
    """mmdet 3 names the attentions of a layer by what they do, and has one feed-forward."""
    encoder = name.startswith("pixel_decoder.encoder.")
    first, second = ("self_attn", "") if encoder else ("cross_attn", "self_attn")
    name = name.replace(".attentions.0.", f".{first}.").replace(".attentions.1.", f".{second}.")
    return name.replace(".ffns.0.", ".ffn.")
