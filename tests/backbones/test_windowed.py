from __future__ import annotations

from functools import partial

import pytest
import torch
from timm.models.vision_transformer_sam import VisionTransformerSAM
from torch import nn

import backbones
from backbones import InputError, MultiwayConfig, UsageError, weights, windowed
from backbones.multiway import Multiway
from backbones.windowed import WindowedMultiway, into_windows, out_of_windows

PLAIN = MultiwayConfig(
    image_size=80, patch_size=8, dim=32, layers=4, heads=4, ffn_dim=64, vocab_size=50, max_text_positions=40,
    attention="shared", experts="standard", sub_ln=False, final_norm=False, window=4, global_layers=(1, 3),
)  # fmt: skip
"""A plain vision transformer, which others have in windows too. The map of 10 x 10 is no multiple of the window."""

WINDOWED = {"image_size": 128, "window": 3, "global_layers": (2, 5), "final_norm": False}


def randomised(model: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return model.eval()


def timm_pair(*, image_size: int = 80, positions: bool = True) -> tuple[VisionTransformerSAM, WindowedMultiway]:
    """timm's ViTDet-style encoder with random weights, and ours with the same."""
    theirs = VisionTransformerSAM(
        img_size=80, patch_size=8, embed_dim=32, depth=4, num_heads=4, mlp_ratio=2, num_classes=0, window_size=4,
        global_attn_indexes=(1, 3), use_rel_pos=True, use_abs_pos=positions, neck_chans=8,
        norm_layer=partial(nn.LayerNorm, eps=1e-5),
    )  # fmt: skip
    randomised(theirs)
    ours = WindowedMultiway(PLAIN).eval()
    table = theirs.pos_embed.detach().flatten(1, 2)[0] if positions else torch.zeros(100, 32)
    state = {"encoder.embed_positions.A.weight": torch.cat([torch.zeros(3, 32), table])}
    renamed = {
        "norm1": "self_attn_layer_norm",
        "norm2": "final_layer_norm",
        "attn.proj": "self_attn.out_proj",
        "mlp.fc1": "ffn.fc1",
        "mlp.fc2": "ffn.fc2",
    }
    for name, tensor in theirs.state_dict().items():
        if name.startswith("patch_embed.proj."):
            state[f"vision_embed.{name.removeprefix('patch_embed.')}"] = tensor
        if not name.startswith("blocks."):
            continue
        _, index, inside = name.split(".", 2)
        module, _, kind = inside.rpartition(".")
        if kind in ("rel_pos_h", "rel_pos_w"):
            state[f"relative.{index}.{'height' if kind.endswith('h') else 'width'}"] = tensor
        elif module == "attn.qkv":
            for part, chunk in zip("qkv", tensor.chunk(3), strict=True):
                state[f"encoder.layers.{index}.self_attn.{part}_proj.{kind}"] = chunk
        else:
            state[f"encoder.layers.{index}.{renamed[module]}.{kind}"] = tensor
    missing, unexpected = ours.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(not name.startswith(("encoder.layers", "relative")) for name in missing)
    return theirs, ours


@pytest.mark.parametrize("layer", [0, 1, 3], ids=["in windows", "everywhere", "last"])
def test_equals_timms_encoder_of_the_same_form(layer: int) -> None:
    theirs, ours = timm_pair()
    seen = {}
    for index, block in enumerate(theirs.blocks):
        block.register_forward_hook(lambda _, __, out, index=index: seen.setdefault(index, out))
    image = torch.randn(2, 3, 80, 80)
    with torch.inference_mode():
        theirs.forward_features(image)
        (found,) = ours.maps(image, [layer])
    assert seen[layer].abs().max() > 1
    torch.testing.assert_close(found, seen[layer].permute(0, 3, 1, 2), rtol=1e-4, atol=1e-4)


def test_relative_positions_are_interpolated_for_another_size_as_in_timm() -> None:
    theirs, ours = timm_pair(positions=False)
    seen = []
    theirs.blocks[-1].register_forward_hook(lambda _, __, out: seen.append(out))
    image = torch.randn(1, 3, 120, 120)
    with torch.inference_mode():
        theirs.forward_features(image)
        (found,) = ours.maps(image, [3])
    torch.testing.assert_close(found, seen[0].permute(0, 3, 1, 2), rtol=1e-4, atol=1e-4)


def test_making_the_bias_in_parts_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = randomised(backbones.build("multiway_nano", **WINDOWED | {"patch_size": 8}))
    image = torch.randn(2, 3, 128, 96)  # rows and columns differ
    with torch.inference_mode():
        (whole,) = model.maps(image, [5])
        monkeypatch.setattr(windowed, "MAX_BIAS_ELEMENTS", 2 * 4 * 192 * 12 * 3)  # three rows of queries
        (parts,) = model.maps(image, [5])
    assert whole.shape == (2, 128, 16, 12)
    torch.testing.assert_close(parts, whole)


def test_a_layer_everywhere_without_relative_positions_is_the_usual_one() -> None:
    """At the start relative positions are zero: what differs from the usual form is the absent class token."""
    model = backbones.build("multiway_nano", **WINDOWED | {"global_layers": tuple(range(6))}).eval()
    usual = backbones.build("multiway_nano", image_size=128, final_norm=False).eval()
    usual.load_state_dict({name: t for name, t in model.state_dict().items() if not name.startswith("relative.")})
    image = torch.randn(1, 3, 128, 128)
    with torch.inference_mode():
        (found,) = model.maps(image, [5])
        expected = usual.image_layers(usual.embed_image(image)[:, 1:], range(6))
    torch.testing.assert_close(found.flatten(2).transpose(1, 2), expected, rtol=1e-4, atol=1e-4)


def test_windows_come_together_again() -> None:
    maps = torch.arange(2 * 5 * 7).view(2, 5, 7, 1).float()
    windows = into_windows(maps, (3, 3))
    assert windows.shape == (2 * 2 * 3, 3, 3, 1)
    assert windows[1, :, :, 0].tolist() == [[3, 4, 5], [10, 11, 12], [17, 18, 19]]
    assert windows[5, 2].sum() == windows[5, :, 1:].sum() == 0  # padding below and to the right
    assert torch.equal(out_of_windows(windows, (5, 7)), maps)


def test_activations_can_be_computed_again() -> None:
    grads = []
    for again in (False, True):
        model = randomised(backbones.build("multiway_nano", **WINDOWED, checkpoint_activations=again)).train()
        model.maps(torch.ones(1, 3, 128, 128), [5])[0].square().mean().backward()
        grads.append(model.relative[0].height.grad)
    assert grads[0].abs().max() > 0
    torch.testing.assert_close(grads[0], grads[1])


@pytest.mark.slow
def test_pretrained_weights_start_it(tmp_path) -> None:
    usual = randomised(Multiway(backbones.resolve("multiway_nano")))
    weights.save({f"beit3.{name}": t for name, t in usual.state_dict().items()}, tmp_path / "pretrained.safetensors")
    model = backbones.build("multiway_nano", **WINDOWED)
    report = weights.load(model, tmp_path / "pretrained.safetensors")
    assert len(report.fresh) == 12
    assert all(name.startswith("beit3.relative.") for name in report.fresh)
    assert report.resized == ("beit3.encoder.embed_positions.A.weight",)

    # What a detector learnt at one size starts it at another, and nothing may be absent when it predicts.
    task = nn.Module()
    task.beit3 = randomised(model)
    weights.save(task.state_dict(), tmp_path / "detector.safetensors")
    task.beit3 = backbones.build("multiway_nano", **WINDOWED | {"image_size": 160})
    report = weights.load(task, tmp_path / "detector.safetensors")
    assert not report.fresh
    assert report.resized == (
        "beit3.encoder.embed_positions.A.weight",
        *(f"beit3.relative.{layer}.{side}" for layer in (2, 5) for side in ("height", "width")),
    )
    with pytest.raises(InputError, match="relative"):
        weights.load(task, tmp_path / "pretrained.safetensors")


def test_patches_of_14_pixels_start_patches_of_16(tmp_path) -> None:
    """Of a kernel that is a ramp along each row, the resized one is a ramp of as many values between the same ends."""
    small = {"dim": 32, "layers": 1, "heads": 2, "ffn_dim": 64}
    source = backbones.build("beit3_giant_patch14_224", **small, vl_layers=0)
    with torch.no_grad():
        source.vision_embed.proj.weight.copy_(torch.arange(14.0).expand_as(source.vision_embed.proj.weight))
    weights.save(source.state_dict(), tmp_path / "giant.safetensors")
    model = backbones.build("beit3_giant_patch14_224", **small, vl_layers=0, patch_size=16, image_size=256)
    report = weights.load(model, tmp_path / "giant.safetensors")
    assert report.resized == ("beit3.vision_embed.proj.weight",)
    kernel = model.vision_embed.proj.weight[0, 0]
    assert kernel.shape == (16, 16)
    torch.testing.assert_close(kernel[0], kernel[-1])
    inner = (torch.arange(16) + 0.5) * 14 / 16 - 0.5
    torch.testing.assert_close(kernel[0, 1:-1], inner[1:-1], rtol=0, atol=0.1)  # bicubic waves a little around a line


def test_what_an_image_never_passes_is_frozen_and_depths_are_its_layers() -> None:
    model = backbones.build("multiway_nano", **WINDOWED)
    model.freeze_unused_by_images()
    model.maps(torch.zeros(1, 3, 128, 128), [5])[0].sum().backward()
    assert all((parameter.grad is not None) == parameter.requires_grad for parameter in model.parameters())
    assert [model.layer_id(name) for name in ("relative.0.height", "relative.5.width")] == [1, 6]
    assert model.layer_id("encoder.layers.5.ffn.A.fc1.weight") == 6


def test_layers_that_do_not_exist_are_refused() -> None:
    with pytest.raises(UsageError, match="6 layers"):
        backbones.build("multiway_nano", window=4, global_layers=(2, 6))
