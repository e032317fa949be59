from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import backbones
from backbones.errors import InputError, UsageError
from backbones.multiway import Multiway
from backbones.pyramid import SimpleFeaturePyramid
from harness.optim import (
    ScaledOptimizer,
    adamw,
    cosine_schedule,
    parameter_groups,
    poly_schedule,
    recipe_schedule,
    step_schedule,
)
from tasks.recipe import Recipe
from tests.backbones.test_multiway import official_config

RECIPE = Recipe(name="test", source="", image_size=32, epochs=1, warmup_epochs=0, batch_size=8, lr=1e-3)
MODES = {
    "layer_decay_0_65": {"layer_decay": 0.65},
    "layer_decay_1_head_lr_20": {"head_lr_scale": 20.0},
    "plain": {},
}


class QuestionAnswering(nn.Module):
    """The parameters of the official VQA model, on which the reference groups were taken."""

    def __init__(self, meta: dict) -> None:
        super().__init__()
        dim, answers = meta["dim"], meta["cases"]["visual_question_answering"]["num_classes"]
        self.beit3 = Multiway(official_config(meta, final_norm=False))
        self.pooler = nn.ModuleDict({"norm": nn.LayerNorm(dim), "dense": nn.Linear(dim, dim)})
        self.head = nn.Sequential(
            nn.Linear(dim, 2 * dim), nn.LayerNorm(2 * dim), nn.GELU(), nn.Linear(2 * dim, answers)
        )


@pytest.mark.parametrize("mode", MODES)
def test_groups_equal_the_official_ones(reference_meta: dict, mode: str) -> None:
    expected = reference_meta["optim"][mode]
    recipe = dataclasses.replace(RECIPE, **MODES[mode], weight_decay=0.05)
    groups = parameter_groups(QuestionAnswering(reference_meta), recipe)
    found = {name: [g["lr_scale"], g["weight_decay"]] for g in groups for name in g["names"]}
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, rel=1e-12), name


def test_learnt_scales_do_not_decay() -> None:
    class Retrieval(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.beit3 = nn.Linear(2, 2)
            self.beit3.no_weight_decay = set
            self.logit_scale = nn.Parameter(torch.ones([]))

    decays = {name: g["weight_decay"] for g in parameter_groups(Retrieval(), RECIPE) for name in g["names"]}
    assert decays == {"beit3.weight": 0.05, "beit3.bias": 0.0, "logit_scale": 0.0}


@pytest.mark.parametrize(
    ("decays", "without"),
    [
        # detectron2 spares PyTorch's own norms, which are the transformer's, and with ViTDet's override the positions.
        ("detectron2", {"norm", "positions"}),
        ("all", set()),
    ],
)
def test_decay_may_be_detectron2s(decays: str, without: set[str]) -> None:
    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.beit3 = backbones.build("multiway_nano", image_size=64, window=2, global_layers=(5,))
            self.beit3.freeze_unused_by_images()
            self.net = SimpleFeaturePyramid(128, 8)

    recipe = dataclasses.replace(RECIPE, decays=decays, weight_decay=0.1)
    found = {name: group["weight_decay"] for group in parameter_groups(Detector(), recipe) for name in group["names"]}
    parts = {
        "beit3.encoder.layers.3.self_attn_layer_norm.A.weight": "norm",
        "beit3.encoder.layers.3.self_attn.inner_attn_ln.A.bias": "norm",
        "beit3.encoder.layers.3.ffn.A.ffn_layernorm.bias": "norm",
        "beit3.encoder.embed_positions.A.weight": "positions",
        "beit3.relative.3.height": "relative positions",
        "beit3.encoder.layers.3.self_attn.q_proj.A.bias": "bias",
        "beit3.vision_embed.proj.weight": "matrix",
        "net.levels.1.2.weight": "norm of the pyramid",
        "net.levels.1.2.bias": "norm of the pyramid",
        "net.levels.1.0.bias": "bias",
    }
    for name, part in parts.items():
        assert found[name] == (0.0 if part in without else 0.1), name


def test_schedule_equals_the_official_one(reference_meta: dict) -> None:
    official = reference_meta["schedule"]
    rates = cosine_schedule(
        peak=official["base"],
        final=official["final"],
        start=official["start_warmup"],
        steps=official["epochs"] * official["steps_per_epoch"],
        warmup_steps=official["warmup_epochs"] * official["steps_per_epoch"],
    )
    np.testing.assert_allclose(rates, official["values"], rtol=1e-12)


def test_schedule_without_and_of_nothing_but_warmup() -> None:
    options = {"peak": 1.0, "final": 0.0, "start": 0.0, "steps": 8}
    assert cosine_schedule(**options, warmup_steps=0)[0] == 1.0
    assert list(cosine_schedule(**options, warmup_steps=8)) == pytest.approx(np.linspace(0, 1, 8))


def test_a_recipe_may_count_steps_instead_of_epochs() -> None:
    by_steps = dataclasses.replace(RECIPE, epochs=0, steps=10, warmup_steps=4)
    by_epochs = dataclasses.replace(RECIPE, epochs=5, warmup_epochs=2)
    rates = recipe_schedule(by_steps, steps_per_epoch=2)
    np.testing.assert_array_equal(rates, recipe_schedule(by_epochs, steps_per_epoch=2))
    assert len(recipe_schedule(by_steps, steps_per_epoch=7)) == 10


def test_poly_equals_mmengines_schedulers() -> None:
    from mmengine.optim import LinearLR, PolyLR

    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2e-5)
    # A warm-up that multiplies the falling rate: what mmcv 1.x did, and two chained schedulers of mmengine do.
    schedulers = [LinearLR(optimizer, start_factor=1e-6, end=15, by_epoch=False)]
    schedulers.append(PolyLR(optimizer, eta_min=0.0, power=1.0, end=101, by_epoch=False))
    expected = []
    for _ in range(100):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    rates = poly_schedule(peak=2e-5, start=2e-11, steps=100, warmup_steps=15)
    # mmengine's warm-up reaches its end one step earlier than mmcv's did.
    np.testing.assert_allclose(rates[15:], np.array(expected)[15:], rtol=1e-9)
    assert rates[0] == pytest.approx(2e-11)
    assert rates[7] == pytest.approx(2e-5 * (1 - 7 / 100) * (1e-6 + (1 - 1e-6) * 7 / 15))


def test_step_schedule_has_the_published_numbers() -> None:
    """ViTDet: 184,375 steps, divided at 163,889 and 177,546, warm-up from a thousandth over 250 steps."""
    rates = step_schedule(
        peak=1e-4, start=1e-7, steps=184_375, warmup_steps=250, milestones=(163_889 / 184_375, 177_546 / 184_375)
    )
    assert rates[[0, 125, 250, 163_888]] == pytest.approx([1e-7, 5.005e-5, 1e-4, 1e-4])
    assert rates[[163_889, 177_545, 177_546, -1]] == pytest.approx([1e-5, 1e-5, 1e-6, 1e-6])


def test_a_recipe_names_its_schedule() -> None:
    by_steps = dataclasses.replace(RECIPE, epochs=0, steps=10)
    falling = recipe_schedule(dataclasses.replace(by_steps, schedule="poly"), steps_per_epoch=1)
    np.testing.assert_allclose(falling, 1e-3 * np.linspace(1, 0, 10, endpoint=False))
    stepped = dataclasses.replace(by_steps, schedule="step", milestones=(0.5, 0.9))
    np.testing.assert_allclose(recipe_schedule(stepped, steps_per_epoch=1), [1e-3] * 5 + [1e-4] * 4 + [1e-5])


def test_a_warmup_in_steps_beside_epochs_is_compared_with_the_data() -> None:
    recipe = dataclasses.replace(RECIPE, epochs=2, warmup_steps=250)
    assert len(recipe_schedule(recipe, steps_per_epoch=200)) == 400
    with pytest.raises(UsageError, match="250 steps is more than the 20 steps"):
        recipe_schedule(recipe, steps_per_epoch=10)


def test_accumulated_steps_equal_one_large_batch() -> None:
    torch.manual_seed(0)
    data = torch.randn(8, 4)
    weights = []
    for parts in (1, 4):
        torch.manual_seed(1)
        model = nn.Linear(4, 1)
        optimizer = ScaledOptimizer(
            torch.optim.SGD(model.parameters(), lr=0.1), precision="fp32", device=torch.device("cpu")
        )
        for chunk in data.chunk(parts):
            with optimizer.autocast():
                loss = model(chunk).square().mean()
            optimizer.backward(loss / parts)
        optimizer.step()
        weights.append(model.weight.detach().clone())
    torch.testing.assert_close(weights[0], weights[1])


def test_bf16_computes_in_bfloat16_on_the_cpu_and_keeps_float32_weights(reference_meta: dict) -> None:
    model = QuestionAnswering(reference_meta)
    optimizer = ScaledOptimizer(adamw(model, RECIPE), precision="bf16", device=torch.device("cpu"))
    with optimizer.autocast():
        out = model.head(torch.randn(2, reference_meta["dim"]))
    assert out.dtype == torch.bfloat16
    assert model.head[0].weight.dtype == torch.float32


def test_optimizer_takes_the_recipes_betas_and_eps(reference_meta: dict) -> None:
    recipe = dataclasses.replace(RECIPE, beta2=0.98, eps=1e-6)
    optimizer = adamw(QuestionAnswering(reference_meta), recipe)
    assert isinstance(optimizer, torch.optim.AdamW)
    assert {(group["betas"], group["eps"]) for group in optimizer.param_groups} == {((0.9, 0.98), 1e-6)}


def stepped(optimizer: ScaledOptimizer, model: nn.Module, loss_of: Callable[[], torch.Tensor]) -> torch.Tensor:
    """The first weight before the step, after a step on the loss."""
    before = next(model.parameters()).detach().clone()
    with optimizer.autocast():
        loss = loss_of()
    optimizer.backward(loss)
    optimizer.step()
    return before


def fp16_optimizer(model: nn.Module, **options: Any) -> ScaledOptimizer:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return ScaledOptimizer(optimizer, precision="fp16", device=torch.device("cpu"), **options)


def test_fp16_keeps_gradients_that_float16_cannot_hold() -> None:
    """1e-9 is 0 in float16; times the first scale, 65,536, it is not."""
    torch.manual_seed(0)
    x = torch.randn(64, 8)
    weights = {}
    for precision in ("fp32", "fp16"):
        torch.manual_seed(1)
        model = nn.Linear(8, 4)
        optimizer = ScaledOptimizer(
            torch.optim.SGD(model.parameters(), lr=1e6), precision=precision, device=torch.device("cpu")
        )
        before = stepped(optimizer, model, lambda: 1e-9 * model(x).float().square().sum())  # noqa: B023
        weights[precision] = model.weight.detach() - before
    assert weights["fp32"].abs().max() > 1e-3
    torch.testing.assert_close(weights["fp16"], weights["fp32"], rtol=0.01, atol=1e-5)


@pytest.mark.parametrize("parts", [1, 4])
def test_clipping_and_accumulation_see_unscaled_gradients(parts: int) -> None:
    torch.manual_seed(0)
    data = torch.randn(8, 4)
    weights = []
    for precision in ("fp32", "fp16"):
        torch.manual_seed(1)
        model = nn.Linear(4, 1)
        optimizer = ScaledOptimizer(
            torch.optim.SGD(model.parameters(), lr=10.0),
            precision=precision,
            device=torch.device("cpu"),
            clip_grad=0.005,
        )
        before = model.weight.detach().clone()
        for chunk in data.chunk(parts):
            with optimizer.autocast():
                loss = 0.01 * model(chunk).float().square().mean()
            optimizer.backward(loss / parts)
        norm = optimizer.step()
        assert norm > 0.005
        change = (model.weight - before).detach()
        weights.append(model.weight.detach().clone())
        assert change.norm() <= 0.05 + 1e-6  # learning rate × norm
        assert change.norm() > 0.03
    torch.testing.assert_close(weights[0], weights[1], rtol=5e-3, atol=1e-3)


def test_a_step_that_overflows_changes_nothing_but_the_scale() -> None:
    model = nn.Linear(4, 1)
    optimizer = fp16_optimizer(model, clip_grad=1.0)
    before = stepped(optimizer, model, lambda: model(torch.ones(2, 4)).float().mean() / 8 * float("inf"))
    assert torch.equal(model.weight, before)
    assert optimizer.state_dict()["loss_scale"]["scale"] == 2**15
    before = stepped(optimizer, model, lambda: model(torch.ones(2, 4)).float().mean() / 8)
    assert not torch.equal(model.weight, before)


def test_the_loss_scale_goes_on_after_a_resume() -> None:
    model = nn.Linear(4, 1)
    optimizer = fp16_optimizer(model)
    for factor in (float("inf"), float("inf"), 1.0):
        stepped(optimizer, model, lambda: model(torch.ones(2, 4)).float().mean() / 8 * factor)  # noqa: B023
    state = optimizer.state_dict()
    again = fp16_optimizer(nn.Linear(4, 1))
    again.load_state_dict(state)
    assert again.state_dict()["loss_scale"] == state["loss_scale"]
    assert state["loss_scale"]["scale"] == 2**14
    assert state["loss_scale"]["_growth_tracker"] == 1
    # A run with precision=auto may go on where it means another precision, and come back.
    other = ScaledOptimizer(
        torch.optim.SGD(nn.Linear(4, 1).parameters(), lr=0.1), precision="bf16", device=torch.device("cpu")
    )
    other.load_state_dict(state)
    assert "loss_scale" not in other.state_dict()


def test_gradients_that_always_overflow_are_told() -> None:
    model = nn.Linear(4, 1)
    optimizer = fp16_optimizer(model)
    with pytest.raises(InputError, match="precision=bf16"):
        for _ in range(40):
            stepped(optimizer, model, lambda: model(torch.ones(2, 4)).float().mean() / 8 * float("inf"))
