"""The implementations that ours is timed against, holding the same weights.

torchscale is the library of BEiT-3's authors, its last release 0.3.0. timm has the image side of BEiT-3 as a
VisionTransformer. Neither comparison means anything unless the outputs are the same, so every benchmark calls
`largest_difference` before it times.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from backbones import MultiwayConfig
from backbones.multiway import Multiway

SIZES = {"nano": "multiway_nano", "base": "beit3_base_patch16_224", "large": "beit3_large_patch16_224"}
TOLERANCE = 1e-4  # of fp32 outputs, absolute
TORCHSCALE_ABSENT = "torchscale is absent: pip install --no-deps torchscale==0.3.0"


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One implementation.

    encode: its module and images [batch, 3, height, width] -> tokens [batch, 1 + patches, dim]. The module is an
        argument so that a compiled one can be passed.
    """

    name: str
    model: nn.Module
    encode: Callable[[nn.Module, Tensor], Tensor]

    def __call__(self, image: Tensor) -> Tensor:
        return self.encode(self.model, image)


def ours(config: MultiwayConfig) -> Peer:
    return Peer(name="ours", model=Multiway(config), encode=lambda model, image: model(image).tokens)


def torchscale(config: MultiwayConfig) -> Peer:
    model = torchscale_beit3(config, drop_path=config.drop_path)
    return Peer(name="torchscale", model=model, encode=lambda model, image: model(visual_tokens=image)["encoder_out"])


def timm(config: MultiwayConfig) -> Peer:
    return Peer(name="timm", model=timm_beit3(config), encode=lambda model, image: model.forward_features(image))


def has_torchscale() -> bool:
    return importlib.util.find_spec("torchscale") is not None


def torchscale_beit3(config: MultiwayConfig, *, drop_path: float = 0.0) -> nn.Module:
    """torchscale's BEiT3 of the same shape, randomly initialised.

    Raises:
        SystemExit: torchscale is absent.
        ValueError: a shape that torchscale does not have.
    """
    if not has_torchscale():
        raise SystemExit(TORCHSCALE_ABSENT)
    if config.attention != "decoupled" or config.experts != "multiway" or config.vl_layers:
        raise ValueError("torchscale's BEiT3 has every module once per modality and no vision-language experts.")
    with _fairscale(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports timm.models.layers, which timm has renamed
        encoder = importlib.import_module("torchscale.architecture.config").EncoderConfig(
            img_size=config.image_size,
            patch_size=config.patch_size,
            vocab_size=config.vocab_size,
            max_source_positions=config.max_text_positions,
            encoder_embed_dim=config.dim,
            encoder_attention_heads=config.heads,
            encoder_ffn_embed_dim=config.ffn_dim,
            encoder_layers=config.layers,
            layernorm_eps=config.layer_norm_eps,
            subln=config.sub_ln,
            normalize_output=config.final_norm,
            drop_path_rate=drop_path,
            multiway=True,
            layernorm_embedding=False,
            no_output_layer=True,
        )
        return importlib.import_module("torchscale.model.BEiT3").BEiT3(encoder)


@contextmanager
def _fairscale() -> Iterator[None]:
    """Something to import under fairscale's name while torchscale is imported.

    It imports two functions that it calls only with checkpoint_activations or fsdp. The stand-in goes again, lest
    other libraries take it for fairscale.
    """
    if importlib.util.find_spec("fairscale") is not None:
        yield
        return
    package, module = types.ModuleType("fairscale"), types.ModuleType("fairscale.nn")
    package.nn, module.checkpoint_wrapper, module.wrap = module, None, None
    stand_ins = {"fairscale": package, "fairscale.nn": module}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name in stand_ins:
            del sys.modules[name]


def timm_beit3(config: MultiwayConfig) -> nn.Module:
    """timm's beit3_base_patch16_224, in the given shape; it has no final norm and no text side."""
    import timm as library

    return library.create_model(
        SIZES["base"],
        num_classes=0,
        img_size=config.image_size,
        patch_size=config.patch_size,
        embed_dim=config.dim,
        depth=config.layers,
        num_heads=config.heads,
        mlp_ratio=config.ffn_dim / config.dim,
    )


@torch.no_grad()
def vary(model: nn.Module, *, seed: int = 0) -> None:
    """Move every parameter a little: one that starts at 0 or 1 could be left out and nobody would see it."""
    where = next(model.parameters()).device
    generator = torch.Generator(where).manual_seed(seed)
    for parameter in model.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator, device=where), alpha=0.005)


def copy_weights(source: Multiway, peer: Peer) -> None:
    """Give a peer the weights of our model; every tensor has its place, or this fails."""
    state = {name: tensor.detach().clone() for name, tensor in source.state_dict().items()}
    if peer.name != "timm":
        peer.model.load_state_dict(state)
        return
    from timm.models.vision_transformer import checkpoint_filter_fn

    converted = checkpoint_filter_fn({f"beit3.{name}": tensor for name, tensor in state.items()}, peer.model)
    found = peer.model.load_state_dict(converted, strict=False)
    missing = [name for name in found.missing_keys if not name.startswith("fc_norm.")]  # behind forward_features
    if missing or found.unexpected_keys:
        raise RuntimeError(f"timm's BEiT-3 has other parameters: {missing} missing, {found.unexpected_keys} left over")


@torch.inference_mode()
def largest_difference(one: Peer, other: Peer, image: Tensor) -> float:
    """Of the fp32 outputs for an image batch, both models in eval mode."""
    one.model.eval()
    other.model.eval()
    return float((one(image) - other(image)).abs().max())


def random_images(config: MultiwayConfig, batch: int, *, device: torch.device | str = "cpu") -> Tensor:
    """Images of normally distributed numbers, as normalised ones have; zeros can compute faster than real ones."""
    generator = torch.Generator().manual_seed(batch)
    return torch.randn(batch, 3, config.image_size, config.image_size, generator=generator).to(device)
