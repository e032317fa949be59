from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from timm.layers import resample_abs_pos_embed

import backbones
from backbones import InputError, UsageError, weights
from backbones.multiway import Multiway
from backbones.noise import DropPath
from backbones.positions import resize_patch_kernel


def vision_state(model: timm.models.VisionTransformer) -> dict[str, torch.Tensor]:
    """A timm BEiT-3 vision tower's weights under the names of expert A."""
    state = {}
    renamed = {
        "norm1": "self_attn_layer_norm.A",
        "norm2": "final_layer_norm.A",
        "attn.proj": "self_attn.out_proj.A",
        "attn.norm": "self_attn.inner_attn_ln.A",
        "mlp.fc1": "ffn.A.fc1",
        "mlp.fc2": "ffn.A.fc2",
        "mlp.norm": "ffn.A.ffn_layernorm",
    }
    for name, tensor in model.state_dict().items():
        if name.startswith("blocks."):
            _, index, inside = name.split(".", 2)
            module, _, kind = inside.rpartition(".")
            prefix = f"encoder.layers.{index}."
            if module == "attn.qkv":
                for part, chunk in zip("qkv", tensor.chunk(3), strict=True):
                    state[f"{prefix}self_attn.{part}_proj.A.{kind}"] = chunk
            else:
                state[f"{prefix}{renamed[module]}.{kind}"] = tensor
        elif name == "pos_embed":
            state["encoder.embed_positions.A.weight"] = torch.cat([torch.zeros(2, tensor.shape[-1]), tensor[0]])
        elif name == "cls_token":
            state["vision_embed.cls_token"] = tensor
        elif name.startswith("patch_embed.proj."):
            state[f"vision_embed.{name.removeprefix('patch_embed.')}"] = tensor
        elif name.startswith("norm."):
            state[f"encoder.layer_norm.A.{name.removeprefix('norm.')}"] = tensor
    return state


@pytest.mark.slow
def test_vision_features_equal_timms_independent_beit3() -> None:
    torch.manual_seed(0)
    theirs = timm.create_model("beit3_base_patch16_224", num_classes=0).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():  # biases and norms too, whose initial values would hide a mix-up
            parameter.add_(torch.randn_like(parameter) * 0.02)
    state = vision_state(theirs)
    has_norm = "encoder.layer_norm.A.weight" in state
    ours = backbones.build("beit3_base_patch16_224", final_norm=has_norm).eval()
    missing, unexpected = ours.load_state_dict(state, strict=False)
    assert unexpected == []
    assert all(".B." in name or name in ("text_embed.weight", "vision_embed.mask_token") for name in missing)
    image = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        features, tokens = theirs.forward_features(image), ours(image).tokens
    assert features.shape == tokens.shape == (2, 197, 768)
    assert (features - tokens).abs().max() <= 1e-4


@pytest.mark.parametrize(
    ("name", "size", "tokens", "prefix"), [("vit_tiny_patch16_224", 64, 17, 1), ("resnet18", 64, 4, 0)]
)
def test_timm_models_stand_behind_the_same_interface(name: str, size: int, tokens: int, prefix: int) -> None:
    model = backbones.build(f"timm/{name}", image_size=size).eval()
    image = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        encoded = model(image)
    assert encoded.tokens.shape == (2, tokens, model.dim)
    assert model.prefix_tokens == prefix
    (features,) = model.maps(image, layers=(1,))
    assert features.ndim == 4
    depths = {name: model.layer_id(name) for name, _ in model.named_parameters()}
    assert min(depths.values()) == 0
    assert max(depths.values()) <= model.num_layers + 1
    with pytest.raises(UsageError, match="images only"):
        model(image, torch.zeros(2, 3, dtype=torch.long))


def test_the_last_map_of_a_plain_transformer_is_that_of_its_last_layer() -> None:
    model = backbones.build("timm/vit_tiny_patch16_224", image_size=64).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        (last,) = model.maps(image, [model.map_layers - 1])
        normed = model.model.norm(last.flatten(2).transpose(1, 2))
        tokens = model.model.forward_features(image)[:, 1:]
    assert model.map_layers == 12
    torch.testing.assert_close(normed, tokens)
    with pytest.raises(UsageError, match="plain transformer"):
        backbones.build("timm/resnet18", image_size=64).map_layers  # noqa: B018


def test_a_multiway_backbone_has_every_method_of_a_timm_one() -> None:
    from backbones.timm_backbone import TimmBackbone

    own = {name for name, value in vars(TimmBackbone).items() if not name.startswith("_")}
    assert own <= set(dir(Multiway))


def test_unknown_timm_models_are_named_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="vit_base_patch16_224"):
        backbones.build("timm/vit_base_patch16_223")


def test_positions_and_patches_of_a_file_are_resized_as_the_model_wants_them(tmp_path: Path) -> None:
    """Positions as timm's own loading resizes them, the kernel as ours."""
    from timm.models.vision_transformer import checkpoint_filter_fn

    torch.manual_seed(0)
    source = timm.create_model("vit_tiny_patch16_224", img_size=224, patch_size=14, num_classes=0)
    torch.save(source.state_dict(), tmp_path / "source.pth")
    target = backbones.build("timm/vit_tiny_patch16_224", image_size=320, patch_size=16)
    report = weights.load(target, tmp_path / "source.pth")
    assert report.resized == ("beit3.model.patch_embed.proj.weight", "beit3.model.pos_embed")
    theirs = checkpoint_filter_fn(dict(source.state_dict()), target.model)
    torch.testing.assert_close(target.model.pos_embed.detach(), theirs["pos_embed"])
    kernel = resize_patch_kernel(source.patch_embed.proj.weight.detach(), 16)
    assert torch.equal(target.model.patch_embed.proj.weight.detach(), kernel)
    assert torch.equal(target.model.blocks[3].mlp.fc1.weight, source.blocks[3].mlp.fc1.weight)


def test_other_sizes_than_the_trained_one_take_interpolated_positions() -> None:
    model = backbones.build("timm/vit_tiny_patch16_224", image_size=64).eval()
    fixed = timm.create_model("vit_tiny_patch16_224", img_size=96, num_classes=0).eval()
    state = model.model.state_dict()
    state["pos_embed"] = resample_abs_pos_embed(state["pos_embed"], [6, 6])
    fixed.load_state_dict(state)
    image = torch.randn(1, 3, 96, 96)
    with torch.inference_mode():
        (found,) = model.maps(image, [11])
        (expected,) = fixed.forward_intermediates(image, indices=[11], intermediates_only=True)
    torch.testing.assert_close(found, expected)
    with pytest.raises(InputError, match="90 × 96 pixels is not a whole number of patches of 16"):
        model.maps(torch.zeros(1, 3, 96, 90), [11])


@pytest.mark.parametrize("options", [{"window": 14}, {"experts": "standard"}, {"layers": 3}])
def test_options_that_a_timm_model_cannot_honour_are_refused(options: dict) -> None:
    with pytest.raises(UsageError, match=f"no {next(iter(options))}"):
        backbones.build("timm/vit_tiny_patch16_224", **options)


def test_a_convolutional_model_keeps_its_stochastic_depth() -> None:
    """It has no option for the size of images, which costs it no other option."""
    model = backbones.build("timm/resnet18", image_size=64, drop_path=0.2)
    assert max(module.rate for module in model.modules() if isinstance(module, DropPath)) == pytest.approx(0.2)
    assert (model.any_size, model.patch_size) == (True, None)
