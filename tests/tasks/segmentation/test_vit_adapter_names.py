"""ViT-Adapter's own files: read by their names, and its maps are ours."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from timm.models import register_model
from timm.models.beit import Beit, _create_beit

import backbones
from backbones import InputError, weights
from tasks.segmentation import heads
from tasks.segmentation.model import Segmenter
from tests.conftest import TESTS
from tests.reference.vit_adapter import SIZE, drawn, image
from tests.tasks.segmentation.test_model import CLASSES, MASK2FORMER, batch, predict

QUERIES, WIDTH, DIM = 10, 32, SIZE["dim"]


@register_model
def beit_of_the_reference(pretrained: bool = False, **options: object) -> Beit:
    """The backbone of the reference tensors, in timm."""
    sizes = {"embed_dim": DIM, "depth": SIZE["depth"], "num_heads": SIZE["heads"], "init_values": 1e-6}
    shape = {"patch_size": 16, "use_abs_pos_emb": False, "use_rel_pos_bias": True}
    return _create_beit("beitv2_base_patch16_224", pretrained=False, **shape, **sizes, **options)


@pytest.fixture(autouse=True)
def few_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "QUERIES", QUERIES)


def head_shapes(classes: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the head as mmdet 2.22 with mmcv 1.4 writes them."""

    def layer(name: str, out: int, *rest: int, bias: bool = True) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield f"{name}.weight", (out, *rest)
        if bias:
            yield f"{name}.bias", (out,)

    def feed_forward(name: str) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield from layer(f"{name}.ffns.0.layers.0.0", 4 * WIDTH, WIDTH)
        yield from layer(f"{name}.ffns.0.layers.1", WIDTH, 4 * WIDTH)

    pixel = "pixel_decoder"
    for level in range(3):
        yield from layer(f"{pixel}.input_convs.{level}.conv", WIDTH, DIM, 1, 1)
        yield from layer(f"{pixel}.input_convs.{level}.gn", WIDTH)
    for number in range(6):
        inside = f"{pixel}.encoder.layers.{number}"
        for name, out in (("sampling_offsets", 24), ("attention_weights", 12), ("value_proj", 32), ("output_proj", 32)):
            yield from layer(f"{inside}.attentions.0.{name}", out, WIDTH)
        yield from feed_forward(inside)
        for norm in range(2):
            yield from layer(f"{inside}.norms.{norm}", WIDTH)
    yield f"{pixel}.level_encoding.weight", (3, WIDTH)
    for name, kernel, channels in (("lateral_convs", 1, DIM), ("output_convs", 3, WIDTH)):
        yield from layer(f"{pixel}.{name}.0.conv", WIDTH, channels, kernel, kernel, bias=False)
        yield from layer(f"{pixel}.{name}.0.gn", WIDTH)
    yield from layer(f"{pixel}.mask_feature", WIDTH, WIDTH, 1, 1)
    for number in range(9):
        inside = f"transformer_decoder.layers.{number}"
        for place in range(2):
            yield f"{inside}.attentions.{place}.attn.in_proj_weight", (3 * WIDTH, WIDTH)
            yield f"{inside}.attentions.{place}.attn.in_proj_bias", (3 * WIDTH,)
            yield from layer(f"{inside}.attentions.{place}.attn.out_proj", WIDTH, WIDTH)
        yield from feed_forward(inside)
        for norm in range(3):
            yield from layer(f"{inside}.norms.{norm}", WIDTH)
    yield from layer("transformer_decoder.post_norm", WIDTH)
    for name, rows in (("query_embed", QUERIES), ("query_feat", QUERIES), ("level_embed", 3)):
        yield f"{name}.weight", (rows, WIDTH)
    yield from layer("cls_embed", classes + 1, WIDTH)
    for number in (0, 2, 4):
        yield from layer(f"mask_embed.{number}", WIDTH, WIDTH)


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """A file as mmcv writes it."""
    shapes = json.loads((TESTS / "reference" / "vit_adapter.json").read_text())
    whole_numbers = ("relative_position_index", "num_batches_tracked")
    state = {
        name: torch.zeros(shape, dtype=torch.long)
        if name.endswith(whole_numbers)
        else drawn(name.removeprefix("backbone."), shape)
        for name, shape in shapes.items()
    }
    state |= {f"decode_head.{name}": drawn(name, shape) for name, shape in head_shapes(CLASSES)}
    path = tmp_path / "mask2former_beitv2_adapter.pth.tar"
    torch.save({"meta": {"config": "model = dict()", "iter": 80_000}, "state_dict": state}, path)
    return path


def build(classes: int = CLASSES, **changes: object) -> Segmenter:
    recipe = dataclasses.replace(MASK2FORMER, image_size=SIZE["image"], **changes)
    backbone = backbones.build("timm/beit_of_the_reference", image_size=SIZE["image"], drop_path=recipe.drop_path)
    return Segmenter(backbone, classes=classes, recipe=recipe).eval()


def test_a_released_file_is_read_by_its_own_names_and_its_maps_are_the_official_ones(official: Path) -> None:
    model = build(drop_path=0.3)
    report = weights.load(model, official)
    assert report.ignored == ()
    assert set(report.fresh) == {"beit3.model.fc_norm.weight", "beit3.model.fc_norm.bias"}  # no part of the maps
    expected = load_file(TESTS / "reference" / "vit_adapter.safetensors")
    with torch.inference_mode():
        found = model._maps(image())
    for number, features in enumerate(found):
        torch.testing.assert_close(features, expected[f"map{number}"], rtol=1e-4, atol=1e-4)
    (labels,) = predict(model, batch((64, 96)))
    assert 1 <= labels.min() <= labels.max() <= CLASSES


def test_attentions_are_told_apart_by_their_place(official: Path) -> None:
    """Of the decoder the first one looks at the maps, the second at the queries; a swap would load as well."""
    model = build()
    weights.load(model, official)
    layer = model.head.transformer_decoder.layers[3]
    prefix = "transformer_decoder.layers.3.attentions"
    for place, attention in enumerate((layer.cross_attn, layer.self_attn)):
        name = f"{prefix}.{place}.attn.in_proj_weight"
        assert torch.equal(attention.attn.in_proj_weight, drawn(name, (3 * WIDTH, WIDTH)))


def test_weights_of_other_classes_start_a_training(official: Path) -> None:
    """As those of COCO-Stuff-164k do: only the classes begin anew. To predict, they are refused."""
    model = build(classes=CLASSES + 3)
    report = weights.load(model, official, new_heads=True)
    assert set(report.ignored) == {"head.cls_embed.weight", "head.cls_embed.bias"}
    with pytest.raises(InputError, match=r"head\.cls_embed\.weight \(8x32 in the file, 11x32 in the model\)"):
        weights.load(model, official)


def test_other_files_keep_their_names(tmp_path: Path) -> None:
    model = build()
    weights.save(model.state_dict(), tmp_path / "ours.safetensors")
    assert weights.load(build(), tmp_path / "ours.safetensors").fresh == ()
