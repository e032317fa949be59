from __future__ import annotations

import dataclasses
import io
from functools import partial

import numpy as np
import pytest
import torch
from mmcv.cnn import ConvModule
from PIL import Image

import backbones
from backbones import UsageError, openmmlab  # noqa: F401  before MMSegmentation is imported
from tasks.segmentation import heads
from tasks.segmentation.ade20k import ADE20K
from tasks.segmentation.model import Segmenter, window_starts
from tasks.segmentation.recipes import RECIPES, SegmentationRecipe

CLASSES = 7
UPERNET = SegmentationRecipe(
    name="test", source="", image_size=64, batch_size=2, lr=1e-3, steps=1, head="upernet", head_channels=32,
    head_dropout=0.0, norm="GN", scale=(256, 64), stride=40, drop_path=0.0,
)  # fmt: skip
MASK2FORMER = dataclasses.replace(UPERNET, head="mask2former")
BOTH = pytest.mark.parametrize("recipe", [UPERNET, MASK2FORMER], ids=lambda recipe: recipe.head)


@pytest.fixture(autouse=True)
def few_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "QUERIES", 10)


def build(recipe: SegmentationRecipe) -> Segmenter:
    torch.manual_seed(0)
    options = ADE20K().backbone_options(recipe, layers=6)
    backbone = backbones.build("multiway_nano", image_size=recipe.image_size, **options)
    model = Segmenter(backbone, classes=CLASSES, recipe=recipe).eval()
    if recipe.head == "mask2former":
        with torch.no_grad():  # queries that are of different classes and at different places
            model.head.cls_embed.weight.normal_(std=2.0)
            for layer in model.head.mask_embed[::2]:
                layer.weight.normal_(std=1.0)
    return model


def batch(*sizes: tuple[int, int], original: float = 1.5) -> dict:
    """Images of (height, width) pixels with maps of classes, which the files hold at `original` times the size."""
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    generator = torch.Generator().manual_seed(0)
    inputs, samples = [], []
    for height, width in sizes:
        inputs.append(torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator))
        shape = (round(height * original), round(width * original))
        labels = torch.randint(0, CLASSES, (1, height, width), generator=generator)
        labels[:, :5] = 255
        sample = SegDataSample(metainfo={"img_shape": (height, width), "ori_shape": shape})
        sample.gt_sem_seg = PixelData(data=labels)
        samples.append(sample)
    return {"inputs": inputs, "data_samples": samples}


def predict(model: Segmenter, *views: dict) -> list[np.ndarray]:
    data = {"inputs": [view["inputs"] for view in views], "data_samples": views[0]["data_samples"]}
    with torch.inference_mode():
        records = model(**model.data_preprocessor(data), mode="predict")
    return [np.asarray(Image.open(io.BytesIO(record["png"].tobytes()))) for record in records]


def mmsegmentations_own(model: Segmenter, test: dict) -> torch.nn.Module:
    """MMSegmentation's segmenter as a user's config would build it, with the same weights."""
    from mmengine.config import ConfigDict
    from mmengine.registry import DefaultScope
    from mmseg.registry import MODELS

    recipe, options = model.recipe, {"classes": CLASSES, "recipe": model.recipe}
    upernet = recipe.head == "upernet"
    head = heads.upernet if upernet else heads.mask2former
    backbone = {"type": "Multiway", "name": "multiway_nano", "image_size": 64}
    backbone |= {"layers": [1, 2, 3, 5]} if upernet else {"adapter": True}
    config = {"type": "EncoderDecoder", "backbone": backbone, "decode_head": head(128, **options), "test_cfg": test}
    if upernet:
        config["neck"] = {"type": "MapPyramid", "dim": 128}
        config["auxiliary_head"] = heads.auxiliary(128, **options)
    with DefaultScope.overwrite_default_scope("mmseg"):  # as the package's own tools have it
        net = MODELS.build(ConfigDict(config)).eval()
    places = {
        "beit3.": "backbone.beit3.", "adapter.": "backbone.adapter.", "pyramid.": "neck.", "head.": "decode_head.",
        "auxiliary.": "auxiliary_head.",
    }  # fmt: skip
    state = {}
    for name, tensor in model.state_dict().items():
        part = next(prefix for prefix in places if name.startswith(prefix))
        state[name.replace(part, places[part], 1)] = tensor
    net.load_state_dict(state)
    return net


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize("inference", ["slide", "whole"])
def test_maps_equal_mmsegmentations_own(recipe: SegmentationRecipe, inference: str) -> None:
    model = build(dataclasses.replace(recipe, inference=inference))
    test = {"mode": inference}
    if inference == "slide":
        test |= {"crop_size": (64, 64), "stride": (40, 40)}
    size = (64, 128)  # whole maps at every stride: no padding
    (found,) = predict(model, batch(size))
    normalised = (batch(size)["inputs"][0].float() - 127.5) / 127.5
    meta = {"img_shape": size, "ori_shape": (96, 192)}
    with torch.inference_mode():
        scores = mmsegmentations_own(model, test).inference(normalised[None], [meta])
        resized = torch.nn.functional.interpolate(scores, size=(96, 192), mode="bilinear")
    expected = resized[0].argmax(0).numpy() + 1
    assert found.shape == (96, 192)
    assert (found != expected).mean() < 2e-3
    assert len(np.unique(found)) > 1


@pytest.mark.slow
@BOTH
def test_losses_equal_mmsegmentations_own(recipe: SegmentationRecipe) -> None:
    model = build(recipe).train()
    theirs = mmsegmentations_own(model, {"mode": "whole"}).train()
    losses = []
    for part in (model, theirs):
        data = model.data_preprocessor(batch((64, 64), (50, 60)), True)
        torch.manual_seed(0)  # points of masks are drawn by lot
        losses.append(part(data["inputs"], data["data_samples"], mode="loss"))
    for name, value in losses[1].items():
        ours = name.replace("decode.", "", 1).replace("aux.", "auxiliary.", 1)
        torch.testing.assert_close(losses[0][ours], value, rtol=1e-4, atol=1e-5)
    assert len(losses[0]) == len(losses[1]) >= 4


@pytest.mark.slow
@BOTH
def test_every_trained_parameter_learns(recipe: SegmentationRecipe) -> None:
    model = build(recipe).train()
    losses = model(**model.data_preprocessor(batch((64, 64), (64, 64)), True), mode="loss")
    model.parse_losses(losses)[0].backward()
    idle = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not idle


@pytest.mark.slow
def test_images_smaller_than_the_window_and_of_one_pixel_are_predicted() -> None:
    model = build(UPERNET)
    maps = predict(model, batch((30, 20), (64, 200), original=1.0) | {})
    assert [found.shape for found in maps] == [(30, 20), (64, 200)]
    (found,) = predict(model, batch((64, 64), original=1 / 64))
    assert found.shape == (1, 1)
    assert 1 <= found.min() <= found.max() <= CLASSES


@pytest.mark.slow
def test_sizes_and_mirrored_views_are_averaged() -> None:
    """One image's map, mirrored, is the map of the mirrored image; without mirrored views it is not."""
    for flip in (False, True):
        model = build(dataclasses.replace(UPERNET, tta_flip=flip))
        views = [batch(size, original=96 / size[0]) for size in ((48, 48), (64, 64))]
        with torch.no_grad():  # no class that is the best one everywhere
            scores = torch.stack([model._scores((view["inputs"][0] - 127.5) / 127.5).mean((1, 2)) for view in views])
            model.head.conv_seg.bias.sub_(scores.mean(0))
        (plain,) = predict(model, *views)
        assert len(np.unique(plain)) > 2
        assert not np.array_equal(plain, predict(model, views[1])[0])
        for view in views:
            view["inputs"] = [image.flip(-1) for image in view["inputs"]]
        (back,) = predict(model, *views)
        assert (np.mean(plain == back[:, ::-1]) > 0.995) == flip


def test_windows_cover_a_side_and_end_with_it() -> None:
    assert window_starts(64, 64, 40) == [0]
    assert window_starts(112, 64, 40) == [0, 40, 48]
    assert window_starts(144, 64, 40) == [0, 40, 80]


def test_batch_statistics_of_a_single_pixel_are_refused() -> None:
    with pytest.raises(UsageError, match="micro_batch=2"):
        dataclasses.replace(RECIPES["base_upernet"], micro_batch=1)
    dataclasses.replace(RECIPES["base"], micro_batch=1)


def test_other_backbones_have_maps_too() -> None:
    backbone = backbones.build("timm/vit_tiny_patch16_224", image_size=64)
    model = Segmenter(backbone, classes=CLASSES, recipe=UPERNET).eval()
    (found,) = predict(model, batch((64, 64)))
    assert found.shape == (96, 96)


BFLOAT16 = partial(torch.autocast, "cpu", torch.bfloat16)


@pytest.mark.slow
@BOTH
def test_mixed_precision_predicts_the_same(recipe: SegmentationRecipe) -> None:
    model = build(recipe)
    (precise,) = predict(model, batch((64, 112)))
    with BFLOAT16():
        (mixed,) = predict(model, batch((64, 112)))
    # Random heads of large weights make much of what the backbone rounds.
    assert (precise != mixed).mean() < 0.15
    assert len(np.unique(precise)) > 1


@pytest.mark.slow
@BOTH
def test_mixed_precision_has_the_same_losses(recipe: SegmentationRecipe) -> None:
    model = build(recipe).train()
    losses = []
    for enabled in (False, True):
        torch.manual_seed(0)  # points of masks are drawn by lot
        with BFLOAT16(enabled=enabled):
            every = model(**model.data_preprocessor(batch((64, 64), (50, 60)), True), mode="loss")
            total, each = model.parse_losses(every)
        model.zero_grad()
        total.backward()
        losses.append({name: value.item() for name, value in each.items() if name.endswith(("_ce", "_mask", "_dice"))})
        assert total.isfinite()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    # The classification's are left out: a query that takes another object moves them a lot.
    assert losses[1] == pytest.approx(losses[0], rel=0.1)
    assert len(losses[0]) >= 2


@pytest.mark.parametrize(
    ("recipe", "count"),
    [
        (dataclasses.replace(UPERNET, norm="BN", micro_batch=2), 13),  # poolings 4 + 1, lateral 3, maps 3 + 1, helper 1
        (MASK2FORMER, 10),  # the adapter: convolutions 6, maps 4
    ],
    ids=["upernet", "mask2former"],
)
def test_batch_statistics_are_shared_under_the_same_names(recipe: SegmentationRecipe, count: int) -> None:
    """When the engine has them shared between processes, the optimizer has the parameters already."""
    model = build(recipe)
    names, parameters = list(model.state_dict()), dict(model.named_parameters())
    (before,) = predict(model, batch((64, 64)))
    assert torch.nn.SyncBatchNorm.convert_sync_batchnorm(model) is model
    assert list(model.state_dict()) == names
    assert all(parameter is parameters[name] for name, parameter in model.named_parameters())
    assert sum(isinstance(part, torch.nn.SyncBatchNorm) for part in model.modules()) == count
    # mmcv's modules look their normalisation up by its name.
    found = {type(part.norm) for part in model.modules() if isinstance(part, ConvModule) and part.with_norm}
    assert torch.nn.BatchNorm2d not in found
    np.testing.assert_array_equal(predict(model, batch((64, 64)))[0], before)


def test_layers_of_the_recipe_are_the_heads_and_absent_ones_are_told() -> None:
    model = build(dataclasses.replace(UPERNET, layers=(0, 1, 2, 3)))
    asked = []
    model.beit3.maps = lambda image, layers: asked.append(layers) or type(model.beit3).maps(model.beit3, image, layers)
    predict(model, batch((64, 64)))
    assert asked == [(0, 1, 2, 3)]
    with pytest.raises(UsageError, match="the backbone has 6, from 0 on"):
        ADE20K().require_backbone(model.beit3, dataclasses.replace(UPERNET, layers=(3, 5, 7, 11)))


@BOTH
def test_scores_are_float32_from_the_maps_on(recipe: SegmentationRecipe) -> None:
    """Changes by mixed precision come from the backbone: the same maps have the same scores."""
    model = build(recipe)
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        maps = model._maps(image)
        model._maps = lambda _: maps
        expected = model._decoded(image)
        with BFLOAT16():
            found = model._decoded(image)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_objects_are_matched_to_queries_by_float32_costs() -> None:
    from mmengine.structures import InstanceData

    torch.manual_seed(0)
    assigner = build(MASK2FORMER).head.assigner
    predicted = InstanceData(scores=torch.randn(60, CLASSES + 1), masks=torch.randn(60, 2000))
    truth = InstanceData(labels=torch.arange(40) % CLASSES, masks=(torch.randn(40, 2000) > 0).float())
    given = {"pred_instances": predicted, "gt_instances": truth, "img_meta": {}}
    expected = assigner.assign(**given).gt_inds
    with BFLOAT16():
        assert torch.equal(assigner.assign(**given).gt_inds, expected)
        assert not torch.equal(assigner._assigner.assign(**given).gt_inds, expected)


@pytest.mark.slow
def test_mask2formers_outputs_are_float32_before_the_losses() -> None:
    model = build(MASK2FORMER).train()
    seen = []
    original = model.head.loss_by_feat
    model.head.loss_by_feat = lambda scores, masks, *others: (
        seen.extend(each.dtype for each in (*scores, *masks)) or original(scores, masks, *others)
    )
    with BFLOAT16():
        model(**model.data_preprocessor(batch((64, 64)), True), mode="loss")
    assert len(seen) == 20
    assert set(seen) == {torch.float32}


def test_the_decoders_embeddings_learn_as_slowly_as_the_backbones() -> None:
    from harness.optim import parameter_groups

    recipe = dataclasses.replace(RECIPES["large"], image_size=64, stride=64, head_channels=32)
    model = build(recipe)
    scales = {name: group["lr_scale"] for group in parameter_groups(model, recipe) for name in group["names"]}
    lowest = recipe.layer_decay**7  # of six layers
    for name in (
        "query_embed.weight",
        "query_feat.weight",
        "level_embed.weight",
        "cls_embed.bias",
        "mask_embed.4.bias",
    ):
        assert scales[f"head.{name}"] == pytest.approx(lowest), name
    assert scales["beit3.vision_embed.proj.weight"] == pytest.approx(lowest)
    for name in ("pixel_decoder.level_encoding.weight", "transformer_decoder.post_norm.weight"):
        assert scales[f"head.{name}"] == 1
    assert scales["adapter.level_embed"] == 1


@pytest.mark.parametrize(("channels", "groups"), [(512, 32), (64, 8), (60, 6), (4, 1)])
def test_group_norms_have_eight_channels_a_group_where_they_can(channels: int, groups: int) -> None:
    recipe = dataclasses.replace(UPERNET, head_channels=channels)
    norm = heads.upernet(128, classes=CLASSES, recipe=recipe)["norm_cfg"]
    assert norm == {"type": "GN", "num_groups": groups}
    torch.nn.GroupNorm(norm["num_groups"], channels)  # refuses groups that do not divide the channels
