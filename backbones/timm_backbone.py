"""Any timm model as a backbone for tasks that see images only."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

import timm
import torch
from timm.layers import DropPath, resample_abs_pos_embed
from timm.models import Beit, VisionTransformer, group_parameters
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from backbones import noise
from backbones.errors import UsageError, unknown
from backbones.multiway import Encoded
from backbones.positions import require_whole_patches, resize_patch_kernel


class TimmBackbone(nn.Module):
    """A timm model behind the interface of `Multiway`, for images alone.

    Feature maps of convolutional models count as patch tokens without a class token. Transformers take images of other
    sizes than their own where timm lets them (`any_size`): positions are interpolated bicubically then.

    Args:
        image_size: pixels, square; the model's own when not given.
        patch_size: pixels; the model's own when not given.

    Raises:
        UsageError: an unknown model, or an option that it cannot honour.
    """

    def __init__(
        self,
        name: str,
        *,
        image_size: int | None = None,
        patch_size: int | None = None,
        drop_path: float = 0.0,
        checkpoint_activations: bool = False,
    ) -> None:
        super().__init__()
        require_model(name)
        self._name = name
        wanted = {"img_size": image_size, "patch_size": patch_size, "drop_path_rate": drop_path or None}
        wanted = {option: value for option, value in wanted.items() if value is not None}
        self.model, refused = _create(name, {**wanted, "dynamic_img_size": True})
        if "drop_path_rate" in refused:
            raise UsageError(f"timm/{name} has no stochastic depth: use --set drop_path=0.")
        _share_noise(self.model)
        if "patch_size" in refused and patch_size != self.patch_size:
            own = f"patches of {self.patch_size} pixels" if self.patch_size else "no patches"
            raise UsageError(
                f"timm/{name} has {own} and cannot be built with patches of {patch_size}, which this task needs. Use "
                "a plain vision transformer, such as timm/vit_base_patch16_224."
            )
        if image_size and self.patch_size and image_size % self.patch_size:
            raise UsageError(
                f"Image size {image_size} is not a multiple of the {self.patch_size} pixels of a patch of timm/{name}. "
                f"Use {round(image_size / self.patch_size) * self.patch_size}."
            )
        if checkpoint_activations:
            self._checkpoint_activations()
        # A model that has no size of its own, such as a convolutional one, has no option for it.
        self.any_size = "dynamic_img_size" not in refused or "img_size" in refused
        self.image_size = image_size or self.model.pretrained_cfg["input_size"][-1]
        self.prefix_tokens = getattr(self.model, "num_prefix_tokens", 0)
        if not hasattr(self.model, "group_matcher"):
            raise UsageError(f"timm does not say in which layer the parameters of {name} are. Use another model.")
        groups = group_parameters(self.model, self.model.group_matcher(coarse=False), reverse=True)
        self._layer_ids = {f"model.{parameter}": depth for parameter, depth in groups.items()}

    def _checkpoint_activations(self) -> None:
        try:
            self.model.set_grad_checkpointing(True)
        except (AssertionError, AttributeError):
            raise UsageError(
                f"timm/{self._name} cannot compute its activations again in the backward pass: take "
                "--set checkpoint_activations=false, with a smaller --set micro_batch=… where memory is short."
            ) from None

    @property
    def patch_size(self) -> int | None:
        """Pixels along a side of a patch; None for models that do not begin with patches."""
        size = getattr(getattr(self.model, "patch_embed", None), "patch_size", None)
        return size[0] if isinstance(size, tuple) else size

    @property
    def dim(self) -> int:
        return self.model.num_features

    @property
    def pixel_mean(self) -> tuple[float, float, float]:
        """Of RGB in 0..1, as pretrained."""
        return self.model.pretrained_cfg["mean"]

    @property
    def pixel_std(self) -> tuple[float, float, float]:
        """Of RGB in 0..1, as pretrained."""
        return self.model.pretrained_cfg["std"]

    @property
    def num_layers(self) -> int:
        return max(self._layer_ids.values()) - 1

    @property
    def repeated(self) -> Iterable[nn.Module]:
        """The blocks of a plain transformer; none where a model has stages."""
        return getattr(self.model, "blocks", ())

    @property
    def map_layers(self) -> int:
        """Number of layers that `maps` can be asked for, if their maps have one stride, as dense heads want it.

        Raises:
            UsageError: a model in stages of different strides.
        """
        strides = {stage["reduction"] for stage in self.model.feature_info}
        if len(strides) != 1:
            raise UsageError(
                f"timm/{self._name} works in stages of the strides {sorted(strides)}; detection and segmentation build "
                "their pyramid on a plain transformer. Use one, such as timm/vit_base_patch16_224."
            )
        return len(self.model.feature_info)

    def forward(self, image: Tensor, text: None = None) -> Encoded:
        """[batch, 3, height, width] -> tokens [batch, prefix + patches, dim]."""
        if text is not None:
            raise UsageError("A timm backbone sees images only. Use a Multiway backbone for tasks with text.")
        tokens = _as_tokens(self.model.forward_features(image), self.dim)
        return Encoded(tokens, tokens.shape[1])

    def maps(self, image: Tensor, layers: Sequence[int]) -> tuple[Tensor, ...]:
        """Feature maps [batch, channels, height, width] after the given blocks or stages.

        Raises:
            InputError: the sides of the images are not multiples of the patch size.
        """
        if self.patch_size:
            require_whole_patches(image, self.patch_size)
        found = self.model.forward_intermediates(image, indices=list(layers), intermediates_only=True)
        return tuple(found)

    @property
    def runs_by_layers(self) -> bool:
        """True for the architectures that `image_layers` knows: plain vision transformers and BEiT."""
        return isinstance(self.model, Beit | VisionTransformer)

    @property
    def heads(self) -> int:
        """Of the attention of a plain transformer."""
        return self.model.blocks[0].attn.num_heads

    def embed_image(self, image: Tensor) -> Tensor:
        """Input of the first layer for an image: [batch, prefix + patches, dim], the class token first."""
        model = self.model
        tokens = model.patch_embed(image)
        if isinstance(model, VisionTransformer):
            return model.norm_pre(model.patch_drop(model._pos_embed(tokens)))
        tokens = torch.cat([model.cls_token.expand(len(tokens), -1, -1), tokens], dim=1)
        return model.pos_drop(tokens if model.pos_embed is None else tokens + model.pos_embed)

    def image_layers(self, tokens: Tensor, layers: range) -> Tensor:
        """Image tokens passed on through some of the layers: [batch, prefix + patches, dim]."""
        options = {}
        if isinstance(self.model, Beit) and self.model.rel_pos_bias is not None:
            options["shared_rel_pos_bias"] = self.model.rel_pos_bias()
        for index in layers:
            block = self.model.blocks[index]
            if self.model.grad_checkpointing and self.training:
                tokens = checkpoint(block, tokens, use_reentrant=False, **options)
            else:
                tokens = block(tokens, **options)
        return tokens

    def layer_id(self, name: str) -> int:
        """Depth of a parameter by timm's own grouping."""
        return self._layer_ids[name]

    def freeze_unused_by_images(self) -> None:
        """Freeze the norm that only timm's own classifiers have."""
        for parameter in getattr(self.model, "fc_norm", nn.Identity()).parameters():
            parameter.requires_grad_(False)

    def own_key(self, name: str) -> str | None:
        """The name in this module of a tensor in one of timm's files; None for the classifier."""
        if name.startswith("model."):
            return name
        classifier = self.model.pretrained_cfg.get("classifier", "head")
        heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
        return None if name.startswith(heads) else f"model.{name}"

    def resized(self, name: str, tensor: Tensor, like: Tensor) -> Tensor | None:
        """A tensor of a file fitted to this model's image and patch size; None where its size fits neither."""
        if name == "model.patch_embed.proj.weight" and tensor.shape[:2] == like.shape[:2]:
            return resize_patch_kernel(tensor, like.shape[-1])
        if name == "model.pos_embed" and tensor.ndim == 3 and tensor.shape[2] == like.shape[2]:
            prefix = 0 if getattr(self.model, "no_embed_class", False) else self.prefix_tokens
            side = math.isqrt(like.shape[1] - prefix)
            return resample_abs_pos_embed(tensor, [side, side], num_prefix_tokens=prefix)
        return None

    def no_weight_decay(self) -> set[str]:
        """timm's own list for this model."""
        names = self.model.no_weight_decay() if hasattr(self.model, "no_weight_decay") else set()
        return {f"model.{name}" for name in names}


def require_model(name: str) -> None:
    """Raise a UsageError with the nearest names when timm has no such model."""
    if not timm.is_model(name):
        raise unknown("timm model", name, timm.list_models())


def _create(name: str, wanted: dict[str, object]) -> tuple[nn.Module, set[str]]:
    """A model with its own initial weights, and which of the options its architecture does not have."""
    refused: set[str] = set()
    while True:
        options = {option: value for option, value in wanted.items() if option not in refused}
        try:
            return timm.create_model(name, pretrained=False, num_classes=0, **options), refused
        except TypeError as error:
            named = re.search(r"keyword argument '(\w+)'", str(error))
            if named is None or named[1] not in options:
                raise
            refused.add(named[1])


def _share_noise(model: nn.Module) -> None:
    """Let stochastic depth's draws follow from a sample's index in the batch, as in `Multiway`."""
    drops = [(name, module) for name, module in model.named_modules() if isinstance(module, DropPath)]
    for number, (name, module) in enumerate(drops):
        model.set_submodule(name, noise.DropPath(module.drop_prob, key=(number,)))


def _as_tokens(features: Tensor, dim: int) -> Tensor:
    if features.ndim == 3:
        return features
    if features.shape[1] != dim:  # channels last, as in Swin
        features = features.permute(0, 3, 1, 2)
    return features.flatten(2).transpose(1, 2)
