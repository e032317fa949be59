"""Forecasts of memory beside what autograd keeps, and what follows from a recipe's fields."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

import backbones
from backbones.errors import UsageError
from harness import memory
from harness.cli import main
from harness.memory import forecast
from tasks.adapter import Pass

BASE = "beit3_base_patch16_224"


def kept(model: nn.Module, **inputs: Tensor) -> int:
    """Bytes that autograd keeps of a forward pass, besides the weights."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    found: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        found[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(**inputs)
    return sum(tensor.untyped_storage().nbytes() for place, tensor in found.items() if place not in weights)


@pytest.mark.parametrize("changes", ["", "+sub_ln=false", "+dim=96+ffn_dim=768"])
@pytest.mark.parametrize("each", [Pass(image=True), Pass(text=16), Pass(image=True, text=16)])
def test_the_formula_counts_what_autograd_keeps(each: Pass, changes: str) -> None:
    model = backbones.build(f"multiway_nano{changes}", drop_path=0.1, image_size=64, patch_size=8).train()
    inputs = {"image": torch.randn(2, 3, 64, 64)} if each.image else {}
    if each.text:
        inputs |= {"text": torch.ones(2, 16, dtype=torch.int64), "text_padding": torch.arange(16).expand(2, -1) > 12}
    recipe = SimpleNamespace(checkpoint_activations=False, image_size=64)
    expected = 2 * memory._kept(model.config, each, recipe, half=False)
    assert kept(model, **inputs) == pytest.approx(expected, rel=0.06)


def of(*changes: str, processes: int = 1) -> memory.Forecast:
    return forecast("vqav2", backbone=BASE, changes=("precision=fp32", *changes), processes=processes)


def test_the_parts_follow_from_the_recipe() -> None:
    plain = of()
    numbers = sum(
        parameter.numel() for parameter in backbones.skeleton(BASE, image_size=480, final_norm=False).parameters()
    )
    assert plain.weights == pytest.approx(4 * numbers, rel=0.04)  # and the head's
    assert (plain.gradients, plain.optimizer) == (plain.weights, 2 * plain.weights)
    assert plain.peak == sum(vars(replace(plain, peak=0, updating=0)).values())
    small = of("micro_batch=1", "image_size=32", "max_tokens=4")
    assert small.updating == 2 * 4 * 64010 * 768  # of the text embedding, the largest parameter
    assert small.peak == 4 * small.weights + small.updating
    assert of("ema_decay=0.9").average == plain.weights
    assert of("micro_batch=8").activations == pytest.approx(plain.activations / 2)
    assert of("checkpoint_activations=true").activations < plain.activations / 6
    half = of("precision=bf16")
    assert plain.activations / 2 < half.activations - half.weights / 2 < plain.activations


def test_shards_divide_all_but_activations() -> None:
    plain, apart, sharded = of(), of(processes=4), of("shard=true", processes=4)
    assert apart.peak == plain.peak + apart.gradients  # the buckets of gradients
    for name in ("weights", "gradients", "optimizer"):
        assert getattr(sharded, name) == getattr(plain, name) // 4
    assert sharded.activations == plain.activations
    assert sharded.gathered < apart.weights
    assert of("shard=true") == plain  # there is nothing to divide


def test_frozen_parts_have_no_gradients() -> None:
    found = forecast("imagenet", backbone=BASE, changes=("precision=fp32",))
    assert found.gradients < found.weights / 2  # the text's half of the backbone


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--task", "vqav2"), "give both --task and --backbone"),
        (("--task", "coco_detection", "--backbone", BASE), "heads of coco_detection with recipe"),
        (("--task", "imagenet", "--backbone", "timm/vit_base_patch16_224"), "name a Multiway backbone"),
        (("--task", "base_tokenizer", "--backbone", BASE), "name a masked or a contrastive stage"),
        (("--task", "vqav2", "--backbone", BASE, "--processes", "3"), "not a multiple of"),
    ],
)
def test_what_has_no_forecast_is_told(options: tuple[str, ...], message: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["doctor", *options]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_the_command_forecasts_pretraining(capsys: pytest.CaptureFixture) -> None:
    assert main(["doctor", "--task", "base_masked", "--backbone", BASE, "--set", "micro_batch=2"]) == 0
    out = capsys.readouterr().out
    assert "image tokenizer" in out
    assert "peak" in out
    with pytest.raises(UsageError, match="recipe field"):
        forecast("base_masked", backbone=BASE, changes=("micro_bach=2",))
