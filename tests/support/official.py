"""Files in the form of the released checkpoints, with random numbers.

The names and shapes are written down here from what the authors' files hold, not read off our models.
"""

from __future__ import annotations

from pathlib import Path

import torch

from backbones.config import MultiwayConfig

Shapes = dict[str, tuple[int, ...]]


def trunk(config: MultiwayConfig, *, final_norm: bool) -> Shapes:
    """Every tensor of a released backbone."""
    dim, ffn, patch = config.dim, config.ffn_dim, config.patch_size
    shapes: Shapes = {
        "beit3.text_embed.weight": (config.vocab_size, dim),
        "beit3.vision_embed.mask_token": (1, 1, dim),
        "beit3.vision_embed.cls_token": (1, 1, dim),
        "beit3.vision_embed.proj.weight": (dim, 3, patch, patch),
        "beit3.vision_embed.proj.bias": (dim,),
        "beit3.encoder.embed_positions.A.weight": (config.grid**2 + 3, dim),
        "beit3.encoder.embed_positions.B.weight": (config.max_text_positions, dim),
    }
    for layer in range(config.layers):
        for expert in "AB":
            for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
                shapes |= linear(f"beit3.encoder.layers.{layer}.self_attn.{name}.{expert}", dim, dim)
            for name in ("self_attn.inner_attn_ln", "self_attn_layer_norm", "final_layer_norm"):
                shapes |= norm(f"beit3.encoder.layers.{layer}.{name}.{expert}", dim)
            shapes |= linear(f"beit3.encoder.layers.{layer}.ffn.{expert}.fc1", dim, ffn)
            shapes |= linear(f"beit3.encoder.layers.{layer}.ffn.{expert}.fc2", ffn, dim)
            shapes |= norm(f"beit3.encoder.layers.{layer}.ffn.{expert}.ffn_layernorm", ffn)
    if final_norm:
        shapes |= norm("beit3.encoder.layer_norm.A", dim) | norm("beit3.encoder.layer_norm.B", dim)
    return shapes


def linear(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def norm(name: str, dim: int) -> Shapes:
    return {f"{name}.weight": (dim,), f"{name}.bias": (dim,)}


def write(path: Path, shapes: Shapes) -> dict[str, torch.Tensor]:
    """A `{"model": …}` file of random tensors, as the authors save theirs; returns the tensors."""
    generator = torch.Generator().manual_seed(0)
    state = {name: torch.randn(shape, generator=generator) * 0.05 for name, shape in shapes.items()}
    torch.save({"model": state}, path)
    return state
