"""Tokenizers that BEiT v2 released (`vqkd_encoder_base_decoder_*.pth`), as ours.

Their encoder is a plain vision transformer whose LayerNorm of the patch tokens is called `fc_norm`, and whose keys have
no bias. Names from unilm beit2/modeling_vqkd.py and beit2/modeling_finetune.py; images are scaled to -1..1, always.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import torch
from torch import Tensor

from backbones import weights
from backbones.config import MultiwayConfig
from backbones.errors import InputError
from backbones.files import reading
from backbones.positions import UNUSED_ROWS
from tasks.pretraining.tokenizer import ImageTokenizer, assembled

HEAD_DIM = 64  # of every released encoder
BLOCK = re.compile(r"encoder\.blocks\.(\d+)\.(.+)")
IN_BLOCK = {
    "norm1": "self_attn_layer_norm", "norm2": "final_layer_norm", "attn.proj": "self_attn.out_proj",
    "mlp.fc1": "ffn.fc1", "mlp.fc2": "ffn.fc2",
}  # fmt: skip


def read(path: Path) -> ImageTokenizer:
    """A tokenizer from a BEiT v2 checkpoint; decoder and teacher in it are left out.

    Raises:
        InputError: unreadable, or not of that form.
    """
    state = weights.read(path)
    weights.require_finite(path, state)
    with reading(path, "tokenizer of BEiT v2", fix="Give a checkpoint of its run_vqkd_training.py."):
        try:
            encoder = _config(state)
            return assembled(encoder, _translated(state, encoder), path)
        except KeyError as error:
            raise InputError(
                f"{path} is not a tokenizer of BEiT v2: it has no tensor {error.args[0]}. Give a checkpoint of its "
                "run_vqkd_training.py."
            ) from error


def is_checkpoint(state: dict[str, Tensor]) -> bool:
    """Recognise the checkpoint of such a tokenizer by its names."""
    return "quantize.embedding.weight" in state


def _config(state: dict[str, Tensor]) -> MultiwayConfig:
    dim, _, patch_size, _ = state["encoder.patch_embed.proj.weight"].shape
    blocks = {int(found[1]) for name in state if (found := BLOCK.match(name))}
    grid = math.isqrt(state["encoder.pos_embed"].shape[1] - 1)
    return MultiwayConfig(
        image_size=grid * patch_size, patch_size=patch_size, dim=dim, layers=len(blocks), heads=dim // HEAD_DIM,
        ffn_dim=len(state["encoder.blocks.0.mlp.fc1.weight"]), vocab_size=1, max_text_positions=3, attention="shared",
        experts="standard", sub_ln=False, layer_norm_eps=1e-6,
    )  # fmt: skip


def _translated(state: dict[str, Tensor], encoder: MultiwayConfig) -> dict[str, Tensor]:
    """The tensors under our names."""
    dim, codes = encoder.dim, state["quantize.embedding.weight"]
    own = {
        "beit3.vision_embed.proj.weight": state["encoder.patch_embed.proj.weight"],
        "beit3.vision_embed.proj.bias": state["encoder.patch_embed.proj.bias"],
        "beit3.vision_embed.cls_token": state["encoder.cls_token"],
        "beit3.vision_embed.mask_token": torch.zeros(1, 1, dim),
        "beit3.text_embed.weight": torch.zeros(encoder.vocab_size, dim),
        "beit3.encoder.embed_positions.A.weight": torch.cat(
            [torch.zeros(UNUSED_ROWS, dim), state["encoder.pos_embed"][0]]
        ),
        "beit3.encoder.embed_positions.B.weight": torch.zeros(encoder.max_text_positions, dim),
        "beit3.encoder.layer_norm.weight": state["encoder.fc_norm.weight"],
        "beit3.encoder.layer_norm.bias": state["encoder.fc_norm.bias"],
        "quantize.weight": codes,
        "quantize.hits": torch.zeros(len(codes)),
        "quantize.started": torch.ones((), dtype=torch.bool),
    }
    own |= {name: tensor for name, tensor in state.items() if name.startswith("encode_task_layer.")}
    for index in range(encoder.layers):
        own |= _layer(state, index, dim)
    return own


def _layer(state: dict[str, Tensor], index: int, dim: int) -> dict[str, Tensor]:
    theirs, ours = f"encoder.blocks.{index}", f"beit3.encoder.layers.{index}"
    own = {
        f"{ours}.{new}.{kind}": state[f"{theirs}.{old}.{kind}"]
        for old, new in IN_BLOCK.items()
        for kind in ("weight", "bias")
    }
    biases = {"q": state[f"{theirs}.attn.q_bias"], "k": torch.zeros(dim), "v": state[f"{theirs}.attn.v_bias"]}
    for (letter, bias), weight in zip(biases.items(), state[f"{theirs}.attn.qkv.weight"].split(dim), strict=True):
        own[f"{ours}.self_attn.{letter}_proj.weight"] = weight
        own[f"{ours}.self_attn.{letter}_proj.bias"] = bias
    return own
