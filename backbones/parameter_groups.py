"""Learning-rate and weight-decay groups, the same in our command line and in MMDetection's configs."""

from __future__ import annotations

from typing import Literal

from torch import nn

Decays = Literal["matrices", "detectron2", "all"]


def layer_scale(backbone: nn.Module, name: str | None, *, decay: float) -> float:
    """The factor of a parameter's learning rate under layer-wise decay: decay^(L + 1 - depth).

    Embeddings have depth 0, layer i depth i + 1, the final norm and everything outside the backbone depth L + 1.
    Source: unilm beit3/optim_factory.py; detectron2's get_vit_lr_decay_rate is the same.

    Args:
        name: of the parameter in the backbone; None for one outside it.
    """
    top = backbone.num_layers + 1
    return decay ** (top - (top if name is None else backbone.layer_id(name)))


def without_weight_decay(model: nn.Module, *, prefix: str, decays: Decays) -> set[str]:
    """Names of the parameters that do not decay.

    Args:
        prefix: of the backbone's names in the model, with the dot at its end.
        decays: matrices: all decay but biases, parameters of one dimension and those that the backbone names
            (`no_weight_decay`); source: unilm beit3/optim_factory.py.
            detectron2: all do, biases too, but the backbone's LayerNorms and what it names. The norms of heads and
            pyramid decay, since detectron2 spares PyTorch's own norm modules only; source: its
            get_default_optimizer_params with ViTDet's configuration of base and large.
            all: every parameter does; source: ViTDet's configuration of huge and EVA-01's.
    """
    if decays == "all":
        return set()
    backbone = model.get_submodule(prefix.removesuffix("."))
    named = {prefix + name for name in backbone.no_weight_decay()}
    if decays == "detectron2":
        norms = [name for name, module in backbone.named_modules() if isinstance(module, nn.LayerNorm)]
        return named | {f"{prefix}{norm}.{kind}" for norm in norms for kind in ("weight", "bias")}
    return named | {name for name, each in model.named_parameters() if each.ndim == 1 or name.endswith(".bias")}
