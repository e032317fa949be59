"""Any timm model as a backbone for tasks that see images only."""

from __future__ import annotations

from collections.abc import Sequence

import timm
from timm.models import group_parameters
from torch import Tensor, nn

from backbones.errors import UsageError, unknown
from backbones.multiway import Encoded


class TimmBackbone(nn.Module):
    """A timm model behind the interface of `Multiway`, for images alone.

    Feature maps of convolutional models count as patch tokens without a class token.
    """

    def __init__(self, name: str, *, image_size: int | None, drop_path: float) -> None:
        super().__init__()
        self._name = name
        options = {"img_size": image_size} if image_size else {}
        require_model(name)
        try:
            self.model = timm.create_model(name, pretrained=False, num_classes=0, drop_path_rate=drop_path, **options)
        except TypeError:  # models without a fixed input size, or without stochastic depth, refuse the option
            self.model = timm.create_model(name, pretrained=False, num_classes=0)
        self.image_size = image_size or self.model.pretrained_cfg["input_size"][-1]
        self.prefix_tokens = getattr(self.model, "num_prefix_tokens", 0)
        groups = group_parameters(self.model, self.model.group_matcher(coarse=False), reverse=True)
        self._layer_ids = {f"model.{parameter}": depth for parameter, depth in groups.items()}

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
    def map_layers(self) -> int:
        """How many layers `maps` can be asked for, if their maps have one stride, as dense heads want it.

        Raises:
            UsageError: a model in stages of different strides.
        """
        strides = {stage["reduction"] for stage in self.model.feature_info}
        if len(strides) != 1:
            raise UsageError(
                f"timm/{self._name} works in stages of the strides {sorted(strides)}; detection and segmentation build "
                "their pyramid on a plain transformer. Take one, such as timm/vit_base_patch16_224."
            )
        return len(self.model.feature_info)

    def forward(self, image: Tensor, text: None = None) -> Encoded:
        """[batch, 3, height, width] -> tokens [batch, prefix + patches, dim]."""
        if text is not None:
            raise UsageError("A timm backbone sees images only. Take a Multiway backbone for tasks with text.")
        tokens = _as_tokens(self.model.forward_features(image), self.dim)
        return Encoded(tokens, tokens.shape[1])

    def maps(self, image: Tensor, layers: Sequence[int]) -> tuple[Tensor, ...]:
        """Feature maps [batch, channels, height, width] after the given blocks or stages."""
        found = self.model.forward_intermediates(image, indices=list(layers), intermediates_only=True)
        return tuple(found)

    def layer_id(self, name: str) -> int:
        """Depth of a parameter by timm's own grouping."""
        return self._layer_ids[name]

    def freeze_unused_by_images(self) -> None:
        """Nothing: all of it sees images."""

    def own_key(self, name: str) -> str | None:
        """The name in this module of a tensor in one of timm's files; None for the classifier."""
        if name.startswith("model."):
            return name
        classifier = self.model.pretrained_cfg.get("classifier", "head")
        heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
        return None if name.startswith(heads) else f"model.{name}"

    def no_weight_decay(self) -> set[str]:
        """timm's own list for this model."""
        names = self.model.no_weight_decay() if hasattr(self.model, "no_weight_decay") else set()
        return {f"model.{name}" for name in names}


def require_model(name: str) -> None:
    """Raise a UsageError with the nearest names when timm has no such model."""
    if not timm.is_model(name):
        raise unknown("timm model", name, timm.list_models())


def _as_tokens(features: Tensor, dim: int) -> Tensor:
    if features.ndim == 3:
        return features
    if features.shape[1] != dim:  # channels last, as in Swin
        features = features.permute(0, 3, 1, 2)
    return features.flatten(2).transpose(1, 2)
