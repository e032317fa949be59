"""The image tokenizer: a code of a codebook for each patch of an image.

A plain vision transformer encodes the image, a small head projects each patch to the few dimensions of the codebook.
It is trained by knowledge distillation (`distillation.py`), or comes from a BEiT v2 checkpoint (`beit2.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from backbones import weights
from backbones.config import MultiwayConfig, config
from backbones.errors import InputError, UsageError
from backbones.files import reading
from backbones.multiway import Multiway
from backbones.positions import require_whole_patches
from tasks.pretraining.codebook import Codebook, Quantised
from tasks.pretraining.targets import CodeTarget, ImageTarget, normalised

KIND = "image_tokenizer"  # key in the metadata of a file


def encoder_config(backbone: str, *, image_size: int, layers: int = 0, drop_path: float = 0.0) -> MultiwayConfig:
    """The plain vision transformer that has the width and the patches of a Multiway backbone.

    Args:
        layers: 0 for as many as the backbone has.

    Raises:
        UsageError: unknown backbone, or an image size that its patches do not fill.
    """
    own = config(backbone)
    return replace(
        own, image_size=image_size, layers=layers or own.layers, drop_path=drop_path, attention="shared",
        experts="standard", sub_ln=False, vl_layers=0, layer_norm_eps=1e-6, vocab_size=1, max_text_positions=3,
    )  # fmt: skip


def task_layer(inputs: int, outputs: int) -> nn.Sequential:
    """Two linear layers around a tanh, of weights with std 0.02, as between VQ-KD's parts (arXiv 2208.06366)."""
    layers = nn.Sequential(nn.Linear(inputs, inputs), nn.Tanh(), nn.Linear(inputs, outputs))
    for layer in (layers[0], layers[2]):
        nn.init.trunc_normal_(layer.weight, std=0.02)
        nn.init.zeros_(layer.bias)
    return layers


class ImageTokenizer(nn.Module):
    """Encoder (as `beit3`), `encode_task_layer` and codebook (as `quantize`)."""

    def __init__(self, encoder: MultiwayConfig, codebook: Codebook) -> None:
        super().__init__()
        self.beit3 = Multiway(encoder)
        self.beit3.freeze_unused_by_images()
        self.encode_task_layer = task_layer(encoder.dim, codebook.weight.shape[1])
        self.quantize = codebook

    def forward(self, pixels: Tensor) -> Quantised:
        """Codes of uint8 images [batch, 3, side, side].

        Raises:
            InputError: the sides are no multiple of the patch size.
        """
        require_whole_patches(pixels, self.beit3.patch_size)
        tokens = self.beit3(image=normalised(pixels, self.beit3.pixel_mean, self.beit3.pixel_std)).tokens[:, 1:]
        with torch.autocast(pixels.device.type, enabled=False):
            vectors = self.encode_task_layer(tokens.float())
        return self.quantize(vectors)


class TokenizerTarget(CodeTarget):
    """The codes of a tokenizer that is ready."""

    def __init__(self, tokenizer: ImageTokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.outputs = len(tokenizer.quantize.weight)

    def view_size(self, grid: int) -> int:
        return grid * self.tokenizer.beit3.patch_size

    def forward(self, pixels: Tensor) -> Tensor:
        return self.tokenizer(pixels).codes


def save(tokenizer: ImageTokenizer, path: Path, *, facts: dict[str, Any]) -> None:
    """Write a tokenizer, without what it was trained with.

    Args:
        facts: JSON-able; about its training.
    """
    parts = ("beit3.", "encode_task_layer.", "quantize.")
    state = {name: tensor for name, tensor in tokenizer.state_dict().items() if name.startswith(parts)}
    encoder = asdict(tokenizer.beit3.config)
    weights.save(state, path, metadata={KIND: json.dumps({"encoder": encoder, "facts": facts})})


def read(path: Path) -> ImageTokenizer:
    """A tokenizer from a file that `save` wrote.

    Raises:
        InputError: no such file, not a tokenizer, or one whose parts do not belong together.
    """
    state = weights.read(path)
    found = weights.metadata(path).get(KIND) if path.suffix == ".safetensors" else None
    if found is None:
        raise InputError(
            f"{path} is not an image tokenizer: `harness pretrain` writes one as tokenizer.safetensors. Give that, or "
            "the checkpoint of a BEiT v2 tokenizer (.pth)."
        )
    weights.require_finite(path, state)
    with reading(path, "image tokenizer"):
        known = {field.name for field in fields(MultiwayConfig)}
        values = {name: value for name, value in json.loads(found)["encoder"].items() if name in known}
        encoder = MultiwayConfig(**values | {"global_layers": tuple(values.get("global_layers", ()))})
        return assembled(encoder, state, path)


def assembled(encoder: MultiwayConfig, state: dict[str, Tensor], path: Path) -> ImageTokenizer:
    """A frozen tokenizer from its tensors.

    Raises:
        InputError: tensors are missing or have the wrong shape.
    """
    try:
        codes, dim = state["quantize.weight"].shape
    except (KeyError, ValueError):
        raise InputError(f"{path} has no codebook (quantize.weight). Give a whole tokenizer.") from None
    tokenizer = ImageTokenizer(encoder, Codebook(codes, dim))
    own = tokenizer.state_dict()
    wrong = [name for name in own if name not in state or state[name].shape != own[name].shape]
    if wrong:
        raise InputError(
            f"{path} is not a whole tokenizer: {len(wrong)} tensors are missing or have another shape, such as "
            f"{wrong[0]}. Copy or download it again."
        )
    tokenizer.load_state_dict({name: state[name] for name in own})
    return tokenizer.eval().requires_grad_(False)


def require_codes(target: ImageTarget, path: Path, *, state: Mapping[str, Tensor], weights_file: Path) -> None:
    """Check that weights that a training begins with predict as many codes as its target has.

    Args:
        state: of the weights; without `mim_head` they fit every target.

    Raises:
        UsageError: they predict another number.
    """
    head = state.get("mim_head.weight")
    if head is not None and len(head) != target.outputs:
        raise UsageError(
            f"{path} has {target.outputs:,} codes, and {weights_file} predicts {len(head):,} (mim_head). Give the "
            "tokenizer that the weights were pretrained with (--image-tokenizer FILE), or begin that head at random: "
            "--set new_image_head=true."
        )
