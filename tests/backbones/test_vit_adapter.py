from __future__ import annotations

import pytest
import torch

import backbones
from backbones import UsageError
from backbones.vit_adapter import ViTAdapter, quarters


def build(**options: object) -> tuple[backbones.multiway.Multiway, ViTAdapter]:
    torch.manual_seed(0)
    backbone = backbones.build("multiway_nano", image_size=64, final_norm=False, **options)
    return backbone.eval(), ViTAdapter(backbone).eval()


def test_maps_have_four_strides_whatever_the_image() -> None:
    backbone, adapter = build()
    with torch.inference_mode():
        maps = adapter(backbone, torch.randn(2, 3, 64, 96))
    assert [tuple(features.shape) for features in maps] == [
        (2, 192, 16, 24), (2, 192, 8, 12), (2, 192, 4, 6), (2, 192, 2, 3)
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


def test_features_flow_both_ways() -> None:
    """A change in the image's last corner reaches the patches through an injector, and every parameter learns."""
    backbone, adapter = build()
    backbone.freeze_unused_by_images()
    with torch.no_grad():
        for stage in adapter.stages:
            stage.scale.fill_(1.0)
    torch.manual_seed(1)
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
    with pytest.raises(UsageError, match="Multiway backbones only"):
        ViTAdapter(backbones.build("timm/vit_tiny_patch16_224", image_size=64))
