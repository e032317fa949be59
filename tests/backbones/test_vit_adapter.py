from __future__ import annotations

import pytest
import torch

import backbones
from backbones import UsageError
from backbones.vit_adapter import ViTAdapter, quarters


def build(**options: object) -> tuple[backbones.multiway.Multiway, ViTAdapter]:
    torch.manual_seed(0)
    options = {"image_size": 64, "patch_size": 16, "final_norm": False} | options
    backbone = backbones.build("multiway_nano", **options)
    return backbone.eval(), ViTAdapter(backbone).eval()


def test_maps_have_four_strides_whatever_the_image() -> None:
    backbone, adapter = build()
    with torch.inference_mode():
        maps = adapter(backbone, torch.randn(2, 3, 64, 96))
    assert [tuple(features.shape) for features in maps] == [
        (2, 128, 16, 24), (2, 128, 8, 12), (2, 128, 4, 6), (2, 128, 2, 3)
    ]  # fmt: skip


def test_layers_are_cut_into_four_runs() -> None:
    assert quarters(24) == [range(0, 6), range(6, 12), range(12, 18), range(18, 24)]
    assert [len(part) for part in quarters(40)] == [10] * 4
    assert [list(part) for part in quarters(6)] == [[0, 1], [2], [3], [4, 5]]


def test_the_transformer_begins_as_it_was_pretrained() -> None:
    """Injectors start at nearly nothing: what the adapter reads of the layers is what the backbone alone has there."""
    backbone, adapter = build()
    image = torch.randn(1, 3, 64, 64)
    seen = []
    for norm in adapter.norms:
        norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        expected = backbone.maps(image, [part[-1] for part in quarters(6)])
        for parameter in (*adapter.prior.parameters(), adapter.level_embed, *adapter.up.parameters()):
            parameter.zero_()  # then the side branch adds what the extractors' attention gives to its tokens
        for stage in adapter.stages:
            for extractor in stage.extractors:
                for parameter in (*extractor.cross.parameters(), *extractor.fc2.parameters()):
                    parameter.zero_()
        adapter(backbone, image)
    torch.testing.assert_close(seen[2], expected[2], rtol=1e-3, atol=1e-3)
    resized = torch.nn.functional.interpolate(expected[0], scale_factor=4.0, mode="bilinear")
    torch.testing.assert_close(seen[0], resized, rtol=1e-3, atol=1e-3)


def exchanged(
    backbone: backbones.multiway.Multiway, adapter: ViTAdapter, *, patches_of: torch.Tensor, side_of: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Patches after the first injector and side tokens after the first extractor, each side shown its own image."""
    embed, layers = backbone.embed_image, backbone.image_layers
    patches: list[torch.Tensor] = []
    side: list[torch.Tensor] = []

    def recorded(tokens: torch.Tensor, which: range) -> torch.Tensor:
        patches.append(tokens[:, backbone.prefix_tokens :])
        return layers(tokens, which)

    handle = adapter.stages[0].extractors[0].register_forward_hook(lambda _, inputs, output: side.append(output))
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(backbone, "embed_image", lambda _: embed(patches_of))
        patch.setattr(backbone, "image_layers", recorded)
        adapter(backbone, side_of)
    handle.remove()
    return patches[0], side[0]


def test_features_flow_both_ways() -> None:
    """A change in the last corner that one side alone sees reaches the other there, and every parameter learns."""
    backbone, adapter = build()
    backbone.freeze_unused_by_images()
    with torch.no_grad():
        for stage in adapter.stages:
            stage.scale.fill_(1.0)
    torch.manual_seed(1)
    image = torch.randn(1, 3, 64, 64)
    other = image.clone()
    other[..., -16:, -16:] += 3
    patches, side = exchanged(backbone, adapter, patches_of=image, side_of=image)
    injected, _ = exchanged(backbone, adapter, patches_of=image, side_of=other)
    _, extracted = exchanged(backbone, adapter, patches_of=other, side_of=image)
    assert (injected - patches)[0, 15].norm() > 1e-2 * patches[0, 15].norm()  # the last of 4 x 4
    assert (extracted - side)[0, 63].norm() > 1e-2 * side[0, 63].norm()  # the last of 8 x 8, at stride 8
    sum(features.square().mean() for features in adapter.train()(backbone, torch.randn(2, 3, 64, 64))).backward()
    idle = [name for name, parameter in adapter.named_parameters() if parameter.grad is None]
    assert not idle
    assert all(p.grad is not None for p in backbone.parameters() if p.requires_grad)
    for stage in adapter.stages:
        assert stage.injector.attention.value_proj.weight.grad.abs().max() > 0


def test_centres_of_queries_are_where_they_look() -> None:
    """With offsets of zero a query reads the value at its own place."""
    from backbones.vit_adapter import DeformableCross

    cross = DeformableCross(32, heads=4, levels=1).eval()
    with torch.no_grad():
        attention = cross.attention
        attention.sampling_offsets.bias.zero_()
        for parameter in (*attention.value_proj.parameters(), *attention.output_proj.parameters()):
            parameter.zero_()
        attention.value_proj.weight.fill_diagonal_(1.0)
        attention.output_proj.weight.fill_diagonal_(1.0)
    cross.value_norm = torch.nn.Identity()
    value = torch.randn(1, 3 * 5, 32)
    with torch.inference_mode():
        found = cross(torch.randn(1, 3 * 5, 32), value, [(3, 5)], [(3, 5)])
    torch.testing.assert_close(found[..., :16], value[..., :16], rtol=1e-4, atol=1e-4)


def test_other_backbones_are_refused() -> None:
    with pytest.raises(UsageError, match="timm's plain vision transformers and BEiT"):
        ViTAdapter(backbones.build("timm/resnet18"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_small_patch16_dinov3", "vit_small_patch14_reg4_dinov2"])
def test_timms_plain_transformers_run_by_layers(name: str) -> None:
    """The layers one after the other have the maps that timm's own forward gives."""
    torch.manual_seed(0)
    backbone = backbones.build(f"timm/{name}", image_size=224).eval()
    if not backbone.runs_by_layers:
        with pytest.raises(UsageError, match="plain vision"):
            ViTAdapter(backbone)
        return
    image = torch.randn(1, 3, 224, 224)
    grid = 224 // backbone.patch_size
    with torch.inference_mode():
        (expected,) = backbone.maps(image, [3])
        tokens = backbone.image_layers(backbone.image_layers(backbone.embed_image(image), range(2)), range(2, 4))
        found = tokens[:, backbone.prefix_tokens :].transpose(1, 2).unflatten(2, (grid, grid))
        torch.testing.assert_close(found, expected)
        assert len(ViTAdapter(backbone).eval()(backbone, image)) == 4


def test_only_the_extractors_feed_forwards_are_skipped_by_stochastic_depth() -> None:
    """A sample's draw lets all of it go or scales it up; the attention before it is always added."""
    from backbones.vit_adapter import Extractor

    torch.manual_seed(0)
    extractor = Extractor(32, heads=4, drop_path=0.25).train()
    side, patches = torch.randn(400, 21, 32), torch.randn(400, 4, 32)
    grids = [(4, 4), (2, 2), (1, 1)]
    with torch.no_grad():
        found = extractor(side, patches, grids, (2, 2))
        attended = side + extractor.cross(side, patches, grids, [(2, 2)])
        whole = extractor.eval()(side, patches, grids, (2, 2))
    skipped = (found - attended).abs().amax((1, 2)) < 1e-6
    assert 0.15 < skipped.float().mean() < 0.35
    kept = (whole - attended) / 0.75 + attended
    torch.testing.assert_close(found[~skipped], kept[~skipped], rtol=1e-4, atol=1e-5)


def test_the_recipes_rate_reaches_every_extractor() -> None:
    from timm.layers import DropPath

    backbone = backbones.build("multiway_nano", image_size=64, final_norm=False)
    rates = [part.drop_prob for part in ViTAdapter(backbone, drop_path=0.3).modules() if isinstance(part, DropPath)]
    assert rates == [0.3] * 6


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_group_normalisation_sees_each_image_alone(norm: str) -> None:
    """Maps of a batch are those of its images one by one, but not with batch statistics."""
    torch.manual_seed(0)
    backbone = backbones.build("multiway_nano", image_size=64, final_norm=False)
    adapter = ViTAdapter(backbone, norm=norm).train()
    images = torch.randn(3, 3, 64, 64) * torch.tensor([0.2, 1.0, 3.0])[:, None, None, None]
    with torch.no_grad():
        together = adapter(backbone, images)[0]
        alone = torch.cat([adapter(backbone, image[None])[0] for image in images])
    difference = (together - alone).norm() / together.norm()
    assert difference < 1e-5 if norm == "group" else difference > 0.1


def test_weights_start_as_in_the_source() -> None:
    """Normal of std 0.02 in linear layers; convolutions by their outputs; points one cell apart in all directions."""
    _, adapter = build()
    extractor = adapter.stages[0].extractors[0]
    assert extractor.fc1.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert adapter.prior.stem[1][0].weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.05)
    assert extractor.depthwise.weight.std().item() == pytest.approx((2 / 9) ** 0.5, rel=0.1)
    assert adapter.up.weight.std().item() == pytest.approx((2 / (4 * 128)) ** 0.5, rel=0.05)
    assert extractor.fc1.bias.abs().max() == 0
