"""The Multiway backbone and its dense side under the names by which MMDetection and MMSegmentation configs find them.

Importing this module registers them with mmengine's root registry, which both packages look into, and provides the
operators that mmcv-lite lacks. In a config:

    custom_imports = dict(imports=["backbones.openmmlab"])
    model = dict(
        backbone=dict(type="Multiway", name="beit3_base_patch16_224", weights="beit3_base_patch16_224.pth",
                      image_size=1024, window=14, global_layers=(2, 5, 8, 11)),
        neck=dict(type="SimpleFeaturePyramid", dim=768), …)
    optim_wrapper = dict(
        optimizer=dict(type="AdamW", lr=1e-4, weight_decay=0.1),
        constructor="MultiwayLayerDecay", paramwise_cfg=dict(layer_decay=0.7, decays="detectron2"))
"""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from mmengine.config import ConfigDict
from mmengine.logging import MMLogger
from mmengine.model import BaseModule
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS, DefaultScope
from timm.layers import LayerNorm2d
from torch import Tensor, nn

import backbones
from backbones import operators
from backbones.config import DENSE_PATCH
from backbones.errors import UsageError
from backbones.parameter_groups import layer_scale, without_weight_decay
from backbones.pyramid import MapPyramid, SimpleFeaturePyramid
from backbones.vit_adapter import ViTAdapter

operators.provide()

MODELS.register_module(module=SimpleFeaturePyramid)
MODELS.register_module(module=MapPyramid)
if "LN2d" not in MODELS:  # mmpretrain registers one under the same name
    MODELS.register_module(name="LN2d", module=LayerNorm2d)


def build(config: dict[str, Any], *, package: Literal["mmdet", "mmseg"]) -> BaseModule:
    """A module of MMDetection or MMSegmentation by its configuration, with its own initial weights.

    The same whatever mmengine's default scope is at the moment (mmengine's runner sets one), and without the packages'
    warnings about their own defaults and mmengine's line of log for each tensor.
    """
    importlib.import_module(f"{package}.registry")  # where the root registry finds the package's own
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with DefaultScope.overwrite_default_scope(package), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            module = MODELS.build(ConfigDict(config))
            module.init_weights()
    finally:
        logger.setLevel(level)
    return module


@MODELS.register_module(name="Multiway")
class MultiwayMaps(BaseModule):
    """A backbone of `backbones.build` that returns feature maps.

    Args:
        name: see `backbones.build`.
        weights: pretrained weights, .safetensors or an official .pth.
        image_size: pixels of the training images; others take interpolated positions.
        patch_size: pixels of a patch, hence the stride of the maps. The pyramids and MMDetection's anchors want 16; the
            kernel and positions of weights with other patches (beit3_giant_patch14_224) are resized to it.
        layers: whose maps [batch, dim, height / patch, width / patch] are returned; the last one when not given.
        adapter: return the four maps of a ViT-Adapter (strides 4 to 32) instead.
        options: fields of `MultiwayConfig` to change, such as `window`, `global_layers` and `drop_path`.
    """

    def __init__(
        self,
        name: str,
        *,
        weights: str | Path | None = None,
        image_size: int | None = None,
        patch_size: int = DENSE_PATCH,
        layers: Sequence[int] | None = None,
        adapter: bool = False,
        init_cfg: dict | None = None,
        **options: object,
    ) -> None:
        super().__init__(init_cfg)
        native = backbones.native_patch(name)
        if native not in (patch_size, None):
            MMLogger.get_current_instance().warning(
                f"{name}: its patches of {native} pixels are resized to {patch_size}, the stride that heads expect."
            )
        self.beit3 = backbones.build(
            name, weights=weights, image_size=image_size, patch_size=patch_size, final_norm=False, **options
        )
        self.beit3.freeze_unused_by_images()
        self.layers = [self.beit3.map_layers - 1] if layers is None else list(layers)
        self.adapter = ViTAdapter(self.beit3, drop_path=options.get("drop_path", 0.0)) if adapter else None

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """image: float [batch, 3, height, width]; sides are multiples of the patch size."""
        return self.adapter(self.beit3, image) if self.adapter else self.beit3.maps(image, self.layers)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MultiwayLayerDecay(DefaultOptimWrapperConstructor):
    """An optimizer in which the lower layers of a `Multiway` backbone learn slower.

    Of `paramwise_cfg` it takes `layer_decay`, the factor from a layer to the one below (1.0 when not given), and
    `decays`, which parameters have the optimizer's weight decay (`backbones.parameter_groups`; "matrices" when not
    given). MMDetection's own constructor of this kind knows the names of ConvNeXt, BEiT and MAE alone.
    """

    def add_params(self, params: list[dict], module: nn.Module, **kwargs: object) -> None:
        """Append a group for each learning rate and weight decay.

        Raises:
            UsageError: the model has no Multiway backbone, or paramwise_cfg another option.
        """
        options = {"layer_decay": 1.0, "decays": "matrices"} | self.paramwise_cfg
        if unknown := options.keys() - {"layer_decay", "decays"}:
            raise UsageError(
                f"MultiwayLayerDecay knows layer_decay and decays in paramwise_cfg, not {sorted(unknown)}."
            )
        found = [name for name, each in module.named_modules() if isinstance(each, MultiwayMaps)]
        if not found:
            raise UsageError(
                'MultiwayLayerDecay is for models with a backbone of type="Multiway", and this one has none.'
            )
        prefix = f"{found[0]}.beit3."
        backbone = module.get_submodule(prefix.removesuffix("."))
        spared = without_weight_decay(module, prefix=prefix, decays=options["decays"])
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                inside = name.removeprefix(prefix) if name.startswith(prefix) else None
                scale = layer_scale(backbone, inside, decay=options["layer_decay"])
                decay = 0.0 if name in spared else self.base_wd or 0.0
                groups.setdefault((self.base_lr * scale, decay), []).append(parameter)
        params += [{"params": own, "lr": rate, "weight_decay": decay} for (rate, decay), own in groups.items()]
