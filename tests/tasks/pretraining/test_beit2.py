"""Tokenizers of BEiT v2's form, against timm's BEiT with the same weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from timm.models.beit import Beit
from torch import Tensor, nn

from backbones import weights
from backbones.errors import InputError
from tasks.pretraining import beit2

DIM, CODES, CODE_DIM = 128, 20, 6


def encoder() -> Beit:
    """The encoder that a released tokenizer has, in small: 48 pixels, two blocks."""
    torch.manual_seed(0)
    model = Beit(
        img_size=48, patch_size=16, num_classes=0, embed_dim=DIM, depth=2, num_heads=2, qkv_bias=True, init_values=None,
        use_abs_pos_emb=True, use_rel_pos_bias=False, use_shared_rel_pos_bias=False, global_pool="avg",
    ).eval()  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    return model


def checkpoint() -> dict[str, Tensor]:
    """A checkpoint under the official names, with parts that only its training needs."""
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * 0.3

    # timm keeps the key's bias, which is always 0, and indices in buffers
    names = {name: value for name, value in encoder().state_dict().items() if "k_bias" not in name}
    return {
        **{f"encoder.{name}": tensor for name, tensor in names.items()},
        "encode_task_layer.0.weight": normal(DIM, DIM),
        "encode_task_layer.0.bias": normal(DIM),
        "encode_task_layer.2.weight": normal(CODE_DIM, DIM),
        "encode_task_layer.2.bias": normal(CODE_DIM),
        "quantize.embedding.weight": F.normalize(normal(CODES, CODE_DIM), dim=1),
        "quantize.embedding.cluster_size": torch.ones(CODES),
        "quantize.embedding.embed_avg": torch.ones(CODES, CODE_DIM),
        "quantize.embedding.initted": torch.ones(1),
        "quantize.cluster_size": torch.ones(CODES),
        "decoder.cls_token": torch.zeros(1, 1, DIM),
        "decode_task_layer.0.weight": torch.zeros(DIM, DIM),
        "teacher_model.visual.proj": torch.zeros(3, 3),
        "scaling_layer.shift": torch.zeros(3),
    }


def official_codes(state: dict[str, Tensor], pixels: Tensor) -> Tensor:
    """The patch tokens of timm's encoder, projected, compared by squared distance."""
    model = encoder()
    tokens = model.fc_norm(model.norm(model.forward_features(pixels.float() / 127.5 - 1))[:, 1:])
    head = nn.Sequential(nn.Linear(DIM, DIM), nn.Tanh(), nn.Linear(DIM, CODE_DIM))
    head.load_state_dict({n.removeprefix("encode_task_layer."): t for n, t in state.items() if n.startswith("encode_")})
    vectors = F.normalize(head(tokens), dim=-1)
    distances = (vectors[:, :, None] - state["quantize.embedding.weight"]).square().sum(-1)
    return distances.argmin(-1)


@pytest.mark.slow
@torch.no_grad()
def test_codes_are_those_of_the_official_form(tmp_path: Path) -> None:
    state = checkpoint()
    torch.save({"model": state}, tmp_path / "vqkd.pth")
    tokenizer = beit2.read(tmp_path / "vqkd.pth")
    generator = torch.Generator().manual_seed(5)
    pixels = torch.randint(0, 256, (6, 3, 48, 48), generator=generator, dtype=torch.uint8)
    codes = tokenizer(pixels).codes
    assert torch.equal(codes, official_codes(state, pixels))
    assert len(codes.unique()) > 5  # not all the same
    assert len(tokenizer.quantize.weight) == CODES


@torch.no_grad()
def test_a_dark_image_keeps_its_range(tmp_path: Path) -> None:
    """The official code scales a batch whose values end at 1 as if they were in 0 to 1, and so does a dark one."""
    torch.save({"model": checkpoint()}, tmp_path / "vqkd.pth")
    tokenizer = beit2.read(tmp_path / "vqkd.pth")
    dark = torch.zeros(1, 3, 48, 48, dtype=torch.uint8)
    bright = torch.full((1, 3, 48, 48), 255, dtype=torch.uint8)
    alone, together = tokenizer(dark).codes, tokenizer(torch.cat([dark, bright])).codes
    assert torch.equal(alone[0], together[0])


@pytest.mark.parametrize("absent", ["encoder.pos_embed", "encoder.blocks.1.attn.q_bias", "quantize.embedding.weight"])
def test_a_checkpoint_that_lacks_a_tensor_is_refused_by_its_name(tmp_path: Path, absent: str) -> None:
    state = checkpoint()
    del state[absent]
    torch.save({"model": state}, tmp_path / "vqkd.pth")
    with pytest.raises(InputError, match=f"no tensor {absent}"):
        beit2.read(tmp_path / "vqkd.pth")


def test_other_checkpoints_are_told_apart(tmp_path: Path) -> None:
    assert beit2.is_checkpoint(checkpoint())
    assert not beit2.is_checkpoint({"beit3.text_embed.weight": torch.zeros(2, 2)})
    weights.save({"a": torch.zeros(2)}, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match="is not a tokenizer of BEiT v2"):
        beit2.read(tmp_path / "a.safetensors")
