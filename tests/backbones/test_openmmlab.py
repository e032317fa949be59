from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from torch import nn

import backbones
from backbones import InputError, UsageError, openmmlab, weights
from backbones.config import CONFIGS
from harness.optim import parameter_groups
from tasks.recipe import Recipe
from tests.conftest import REPOSITORY
from tests.support.instances import folder

NANO = {"type": "Multiway", "name": "multiway_nano", "image_size": 64}
IMAGE = torch.randn(2, 3, 64, 96)


def readme_config(package: str, tmp_path: Path) -> Config:
    """The README's example for a package, with the smallest backbone and weights that are there."""
    blocks = re.findall(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)
    (text,) = [block for block in blocks if f'"{package}::_base_/models' in block]
    weights.save(backbones.build("multiway_nano").state_dict(), tmp_path / "nano.safetensors")
    for old, new in (
        ("beit3_base_patch16_224.pth", str(tmp_path / "nano.safetensors")),
        ("beit3_base_patch16_224", "multiway_nano"),
        ("global_layers=(2, 5, 8, 11)", "global_layers=(2, 5)"),
        ("layers=(3, 5, 7, 11)", "layers=(1, 2, 3, 5)"),
        ("768", "128"),
    ):
        assert old in text or old.startswith(("global", "layers"))
        text = text.replace(old, new)
    text = re.sub(r"image_size=\d+", "image_size=64", text)
    path = tmp_path / f"{package}_config.py"
    path.write_text(text)
    return Config.fromfile(path)


@pytest.mark.training
@pytest.mark.parametrize("package", ["mmdet", "mmseg"])
def test_the_readmes_config_builds_a_model_that_learns_and_predicts(package: str, tmp_path: Path) -> None:
    config = readme_config(package, tmp_path)
    with DefaultScope.overwrite_default_scope(package):  # as the packages' own tools have it
        model = revert_sync_batchnorm(MODELS.build(config.model))
    pixels = model.data_preprocessor
    assert (pixels.mean.flatten().tolist(), pixels.std.flatten().tolist()) == ([127.5] * 3, [127.5] * 3)
    assert config.model.data_preprocessor.bgr_to_rgb  # the packages read BGR
    saved = weights.read(tmp_path / "nano.safetensors")
    torch.testing.assert_close(
        model.backbone.beit3.encoder.layers[3].ffn["A"].fc1.weight.detach(), saved["encoder.layers.3.ffn.A.fc1.weight"]
    )
    samples, losses = (detect if package == "mmdet" else segment)(model)
    total, _ = model.parse_losses(losses)
    total.backward()
    assert torch.isfinite(total)
    assert model.backbone.beit3.encoder.layers[0].ffn["A"].fc1.weight.grad.abs().max() > 0
    with torch.inference_mode():
        found = model.eval().predict(IMAGE, samples)
    assert len(found) == 2


def detect(model: torch.nn.Module) -> tuple[list, dict]:
    import numpy as np
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    meta = {"img_shape": (64, 96), "ori_shape": (64, 96), "scale_factor": (1.0, 1.0), "pad_shape": (64, 96)}
    objects = InstanceData(
        bboxes=torch.tensor([[8.0, 8, 40, 50]]),
        labels=torch.tensor([3]),
        masks=BitmapMasks(np.ones((1, 64, 96)), 64, 96),
    )
    samples = [DetDataSample(metainfo=meta, gt_instances=objects) for _ in range(2)]
    return samples, model.train().loss(IMAGE, samples)


def segment(model: torch.nn.Module) -> tuple[list, dict]:
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    samples = [SegDataSample(metainfo={"img_shape": (64, 96), "ori_shape": (64, 96)}) for _ in range(2)]
    for sample in samples:
        sample.gt_sem_seg = PixelData(data=torch.randint(0, 19, (1, 64, 96)))
    return samples, model.train().loss(IMAGE, samples)


@pytest.mark.parametrize("package", ["mmdet", "mmseg"])
def test_both_packages_build_it_from_a_plain_dict(package: str) -> None:
    registry = __import__(f"{package}.registry", fromlist=["MODELS"]).MODELS
    model = registry.build(NANO | {"layers": [2, 5]}).eval()
    with torch.inference_mode():
        maps = model(IMAGE)
        expected = model.beit3.maps(IMAGE, [2, 5])
    assert [tuple(features.shape) for features in maps] == [(2, 128, 4, 6)] * 2
    assert all(torch.equal(a, b) for a, b in zip(maps, expected, strict=True))


def test_the_last_layer_is_the_default_and_an_adapter_gives_four_strides() -> None:
    with torch.inference_mode():
        model = MODELS.build(NANO).eval()
        (last,) = model(IMAGE)
        assert torch.equal(last, model.beit3.maps(IMAGE, [5])[0])
        maps = MODELS.build(NANO | {"adapter": True}).eval()(IMAGE)
    assert [features.shape[-1] for features in maps] == [24, 12, 6, 3]


def test_patches_are_made_to_fit_unless_another_size_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A giant's patches of 14 pixels in a user's config would have strides of 3.5 to 28 in the pyramid."""
    name = "beit3_giant_patch14_224"
    small = dataclasses.replace(CONFIGS[name], layers=2, vl_layers=0, dim=32, heads=2, ffn_dim=32, vocab_size=8)
    monkeypatch.setitem(CONFIGS, name, small)
    source = backbones.build(name)
    weights.save(source.state_dict(), tmp_path / "giant.safetensors")
    config = {"type": "Multiway", "name": name, "weights": str(tmp_path / "giant.safetensors")}
    (last,) = MODELS.build(config)(torch.zeros(1, 3, 64, 96))
    assert last.shape[-2:] == (4, 6)
    model = MODELS.build(config | {"patch_size": 14})
    assert torch.equal(model.beit3.vision_embed.proj.weight, source.vision_embed.proj.weight)
    with pytest.raises(InputError, match="96 × 64 pixels is not a whole number of patches of 14"):
        model(torch.zeros(1, 3, 64, 96))
    with pytest.raises(InputError, match="pad_size_divisor"):
        MODELS.build(NANO | {"adapter": True})(torch.zeros(1, 3, 64, 90))


def test_heads_are_built_the_same_whatever_the_default_scope(capsys: pytest.CaptureFixture) -> None:
    """A training with mmengine's runner leaves a default scope in which no head would be found."""
    config = {"type": "FCNHead", "in_channels": 8, "channels": 8, "num_classes": 3}
    with DefaultScope.overwrite_default_scope("mmengine"):
        head = openmmlab.build(config, package="mmseg")
    assert type(head).__module__.startswith("mmseg.")
    assert capsys.readouterr().out == ""


@pytest.mark.training
def test_the_readmes_detector_trains_by_mmengines_runner(tmp_path: Path) -> None:
    """Two steps with MMDetection's data set, pipeline and schedule: lower layers move less."""
    from mmengine.runner import Runner

    root = folder(tmp_path / "coco")
    config = readme_config("mmdet", tmp_path)
    dataset = config.train_dataloader.dataset
    dataset.filter_cfg = None  # by default images under 32 pixels are left out
    dataset.data_root, dataset.metainfo = f"{root}/", {"classes": ("red", "green", "blue")}
    for step in dataset.pipeline:
        if step.type == "Resize":
            step.scale = (96, 64)
    config.train_dataloader.update(num_workers=0, persistent_workers=False, batch_size=2)
    config.train_cfg = {"type": "IterBasedTrainLoop", "max_iters": 2}
    config.val_dataloader = config.val_cfg = config.val_evaluator = None
    config.test_dataloader = config.test_cfg = config.test_evaluator = None
    config.model.roi_head.bbox_head.num_classes = config.model.roi_head.mask_head.num_classes = 3
    config.work_dir, config.log_level = str(tmp_path / "work"), "ERROR"
    config.experiment_name = "readme"
    with DefaultScope.overwrite_default_scope("mmdet"):  # which puts back what the runner leaves
        runner = Runner.from_cfg(config)
        model = runner.model
        before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        runner.train()
    layers = [f"backbone.beit3.encoder.layers.{index}.ffn.A.fc1.weight" for index in (0, 5)]
    after = {name: parameter.detach() for name, parameter in model.named_parameters()}
    moved = {name: (after[name] - before[name]).abs().max().item() for name in before}
    assert runner.iter == 2
    assert moved[layers[1]] > 0
    assert moved[layers[0]] == pytest.approx(moved[layers[1]] * 0.7**5, rel=0.2)
    assert moved["backbone.beit3.text_embed.weight"] == 0


def test_layers_decay_as_in_our_own_training() -> None:
    model = nn.Module()
    model.backbone = MODELS.build(NANO | {"window": 2, "global_layers": (5,)})
    model.head = nn.Linear(3, 2)
    ours = nn.Module()
    ours.beit3, ours.net = model.backbone.beit3, model.head
    recipe = Recipe(
        name="test", source="", image_size=64, epochs=1, batch_size=2, lr=1e-4, layer_decay=0.7, weight_decay=0.1,
        decays="detectron2",
    )  # fmt: skip
    expected = {
        id(each): (1e-4 * group["lr_scale"], group["weight_decay"])
        for group in parameter_groups(ours, recipe)
        for each in group["params"]
    }
    config = {
        "optimizer": {"type": "AdamW", "lr": 1e-4, "weight_decay": 0.1},
        "constructor": "MultiwayLayerDecay",
        "paramwise_cfg": {"layer_decay": 0.7, "decays": "detectron2"},
    }
    wrapper = build_optim_wrapper(model, config)
    found = {
        id(each): (group["lr"], group["weight_decay"])
        for group in wrapper.optimizer.param_groups
        for each in group["params"]
    }
    assert found == expected
    with pytest.raises(UsageError, match="has none"):
        build_optim_wrapper(nn.Linear(2, 2), config)
    with pytest.raises(UsageError, match="norm_decay_mult"):
        build_optim_wrapper(model, config | {"paramwise_cfg": {"norm_decay_mult": 0.0}})
