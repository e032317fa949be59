"""Strides, patches and test sizes: what dense heads assume of a backbone holds, or the call is refused at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import backbones
from backbones import UsageError
from harness.experiment import plan
from tasks.detection.cascade import STRIDES
from tests.support import instances

SMALL = ("window=0", "head_channels=16", "roi_batch=16", "detections=12", "precision=fp32", "workers=0")


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty data folder and an empty weights file: any attempt to read them fails."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.pth").touch()
    monkeypatch.chdir(tmp_path)


def planned(task: str, backbone: str, *changes: str, recipe: str | None = None) -> object:
    """Plan a run over an empty data folder and an empty weights file."""
    return plan(task, backbone=backbone, data="empty", weights="empty.pth", changes=changes, recipe=recipe)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit_small_patch14_dinov2", "vit_small_patch32_224"])
def test_patches_of_another_size_are_built_with_16_pixels_for_detection(name: str, tmp_path: Path) -> None:
    root = instances.folder(tmp_path / "coco")
    changes = (*SMALL, "image_size=64")
    model = plan("coco_detection", backbone=f"timm/{name}", data=root, changes=changes).build_model()
    maps = model.net.extract_feat(model._maps(torch.zeros(1, 3, 64, 64)))
    assert [64 / features.shape[-1] for features in maps] == [min(stride, 64) for stride in STRIDES]


@pytest.mark.training
def test_the_resizing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr("harness.experiment.note", told.append)
    root = instances.folder(tmp_path / "coco")
    for name in ("vit_tiny_patch16_224", "vit_small_patch32_224"):
        plan("coco_detection", backbone=f"timm/{name}", data=root, changes=(*SMALL, "image_size=64")).build_model()
    (line,) = told
    assert line.startswith("timm/vit_small_patch32_224: patches of 32 pixels and their positions are resized to 16")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "way_out"),
    [
        (("ade20k", "timm/vit_base_patch16_dinov3"), "--recipe base_upernet"),
        (("coco_detection", "timm/vit_base_patch16_224"), "--set window=0"),
        (("coco_detection", "timm/resnet50", "window=0"), "no patches"),
        (("coco_detection", "timm/beit_base_patch16_224", "window=0", "test_size=1536"), "test_size=1024"),
        (("coco_detection", "timm/vit_giant_patch14_dinov2", "window=0", "image_size=1000"), "Use 992"),
        (("coco_detection", "multiway_nano", "image_size=200"), "Use 192"),
        (("imagenet", "timm/vgg11", "drop_path=0", "checkpoint_activations=true"), "checkpoint_activations=false"),
        (("imagenet", "timm/pit_ti_224"), "in which layer"),
        (("imagenet", "timm/vgg11"), "--set drop_path=0"),
        (("imagenet", "timm/vit_small_patch14_dinov2", "image_size=256"), "Use 252"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_a_backbone_cannot_do_is_refused_before_anything_is_read(call: tuple[str, ...], way_out: str) -> None:
    with pytest.raises(UsageError, match=way_out.replace("--", "")):
        planned(*call)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "recipe", "changes", "way_out"),
    [
        ("timm/swin_tiny_patch4_window7_224", "base_upernet", (), "plain transformer"),
        ("timm/beit_base_patch16_224", "base_upernet", ("inference=whole",), "inference=slide"),
        ("multiway_nano", "nano", ("image_size=144",), "image_size=128"),
        ("beit3_giant_patch14_224", "giant", ("image_size=784",), "image_size=896"),
    ],
)
def test_segmentation_refuses_maps_that_do_not_cover_the_crop(
    backbone: str, recipe: str, changes: tuple[str, ...], way_out: str
) -> None:
    with pytest.raises(UsageError, match=way_out):
        planned("ade20k", backbone, *changes, recipe=recipe)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "backbone", "recipe", "changes"),
    [
        ("coco_detection", "timm/vit_giant_patch14_dinov2", None, ("window=0",)),  # three test sizes, training at 1,280
        ("coco_detection", "beit3_giant_patch14_224", None, ()),
        ("ade20k", "timm/vit_large_patch14_dinov2", "large_upernet", ()),
        ("ade20k", "beit3_giant_patch14_224", None, ()),
    ],
)
def test_giants_with_patches_of_14_pixels_fit(
    task: str, backbone: str, recipe: str | None, changes: tuple[str, ...]
) -> None:
    planned(task, backbone, *changes, recipe=recipe)


@pytest.mark.slow
def test_upernet_has_16_pixel_patches_and_the_adapter_those_of_the_weights() -> None:
    from harness.experiment import backbone_options as options
    from tasks import get

    task = get("ade20k")
    light = options(task, "timm/vit_large_patch14_dinov2", task.recipes["large_upernet"])
    assert backbones.skeleton("timm/vit_large_patch14_dinov2", **light).patch_size == 16
    giant = options(task, "beit3_giant_patch14_224", task.recipes["giant"])
    assert backbones.skeleton("beit3_giant_patch14_224", **giant).patch_size == 14


@pytest.mark.slow
def test_a_view_whose_sides_are_no_multiples_is_padded_and_not_cut(tmp_path: Path) -> None:
    """Of an image of 70 pixels the last 6 would be lost, and of one of 100 the last 4."""
    from tests.tasks.detection.test_model import batch, build, predict

    model, seen = build(), []
    maps = model._maps

    def and_seen(images: Tensor) -> tuple[Tensor, ...]:
        seen.append(tuple(images.shape[-2:]))
        return maps(images)

    model._maps = and_seen
    predict(model, batch((70, 64), (100, 90)))
    assert seen == [(128, 128)]


@pytest.mark.training
def test_a_timm_detector_predicts_at_other_sizes_than_it_was_trained_at(tmp_path: Path) -> None:
    """Positions are interpolated: a whole run with two test sizes besides that of the crop."""
    import harness

    data = instances.folder(tmp_path / "coco")
    changes = [*SMALL, "image_size=64", "epochs=1", "warmup_epochs=0", "steps=0", "warmup_steps=0", "batch_size=2"]
    changes += ["micro_batch=2", "test_scales=[64,96]", "checkpoint_activations=true"]
    rows = harness.run("coco_detection", backbone="timm/vit_tiny_patch16_224", data=data, out=tmp_path, changes=changes)
    assert [row.metric for row in rows][:1] == ["box_AP"]


def test_activations_of_a_timm_model_are_computed_again_and_gradients_stay() -> None:
    gradients, calls = [], []
    for again in (False, True):
        torch.manual_seed(0)
        model = backbones.build("timm/vit_tiny_patch16_224", image_size=32, checkpoint_activations=again).train()
        count = [0]
        model.model.blocks[0].register_forward_pre_hook(lambda *_, count=count: count.__setitem__(0, count[0] + 1))
        model.maps(torch.ones(1, 3, 32, 32), [11])[0].sum().backward()
        calls.append(count[0])
        gradients.append(model.model.blocks[0].mlp.fc1.weight.grad)
    assert calls == [1, 2]
    torch.testing.assert_close(*gradients)


def test_skeletons_hold_no_memory() -> None:
    model = backbones.skeleton("beit3_giant_patch14_224")
    assert isinstance(model, nn.Module)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
