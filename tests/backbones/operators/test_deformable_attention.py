from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from backbones.operators import deformable_attention as module
from backbones.operators.deformable_attention import deformable_attention
from tests.benchmarks.deformable import mmcv_form

SHAPES = ((3, 5), (4, 2), (1, 1))
BATCH, QUERIES, HEADS, POINTS, DIM = 2, 3, 2, 2, 4


def some(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Values, locations of which a third is outside, weights."""
    generator = torch.Generator().manual_seed(0)
    cells = sum(height * width for height, width in SHAPES)
    value = torch.randn(BATCH, cells, HEADS, DIM, generator=generator)
    locations = torch.rand(BATCH, QUERIES, HEADS, len(SHAPES), POINTS, 2, generator=generator) * 1.8 - 0.4
    weights = torch.rand(BATCH, QUERIES, HEADS, len(SHAPES), POINTS, generator=generator)
    return value.to(dtype), locations.to(dtype), weights.to(dtype)


def plain(value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """Query by query, sample by sample, corner by corner; zero outside."""
    out = torch.zeros(BATCH, QUERIES, HEADS, DIM, dtype=value.dtype)
    for image in range(BATCH):
        for query in range(QUERIES):
            for head in range(HEADS):
                start = 0
                for level, (height, width) in enumerate(SHAPES):
                    for point in range(POINTS):
                        x, y = locations[image, query, head, level, point].tolist()
                        x, y = x * width - 0.5, y * height - 0.5  # cell 0 has its centre at half a cell
                        for row in (math.floor(y), math.floor(y) + 1):
                            for column in (math.floor(x), math.floor(x) + 1):
                                if 0 <= row < height and 0 <= column < width:
                                    share = (1 - abs(y - row)) * (1 - abs(x - column))
                                    cell = value[image, start + row * width + column, head]
                                    weight = weights[image, query, head, level, point]
                                    out[image, query, head] += weight * share * cell
                    start += height * width
    return out.flatten(2)


def through_mmcv(value: Tensor, shapes: object, locations: Tensor, weights: Tensor) -> Tensor:
    """mmcv's autograd function, which calls the two operators."""
    from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction

    starts = torch.tensor([0, 15, 23], device=value.device)
    shapes = torch.tensor(shapes, device=value.device)
    return MultiScaleDeformableAttnFunction.apply(value, shapes, starts, locations, weights, 64)


both_ways = pytest.mark.parametrize("attend", [deformable_attention, through_mmcv])


@both_ways
def test_is_a_plain_loop(where: torch.device, attend: Callable) -> None:
    value, locations, weights = some()
    found = attend(value.to(where), SHAPES, locations.to(where), weights.to(where))
    assert found.shape == (BATCH, QUERIES, HEADS * DIM)
    torch.testing.assert_close(found.cpu(), plain(value, locations, weights), atol=1e-12, rtol=0)


@pytest.mark.slow
@both_ways
def test_gradients_are_finite_differences(where: torch.device, attend: Callable) -> None:
    inputs = [tensor.to(where).requires_grad_() for tensor in some()]
    assert torch.autograd.gradcheck(lambda value, *others: attend(value, SHAPES, *others), inputs)


def test_parts_make_up_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part has one query here, and two there where the last is short."""
    value, locations, weights = some()
    expected = plain(value, locations, weights)
    for queries in (1, 2):
        monkeypatch.setitem(module.AT_A_TIME, "cpu", queries * HEADS * POINTS)
        torch.testing.assert_close(deformable_attention(value, SHAPES, locations, weights), expected)


def many(dtype: torch.dtype) -> list[Tensor]:
    """Values, locations and weights of several parts, with more samples than cells, of two levels."""
    generator = torch.Generator().manual_seed(1)
    value = torch.randn(2, 480, 8, 16, generator=generator, dtype=dtype)
    locations = torch.rand(2, 700, 8, 2, 8, 2, generator=generator, dtype=dtype) * 1.2 - 0.1
    weights = torch.rand(2, 700, 8, 2, 8, generator=generator, dtype=dtype)
    assert module.AT_A_TIME["cpu"] < weights[0, :, :, 0].numel()
    return [value, locations, weights]


def gradients(attend: Callable, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    """The result of `many` and its gradients."""
    value, locations, weights = (tensor.requires_grad_() for tensor in inputs)
    out = attend(value, torch.tensor([[8, 12], [16, 24]], device=value.device), locations, weights)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(2), dtype=out.dtype)
    return out, *torch.autograd.grad(out, (value, locations, weights), grad.to(out.device))


def test_results_and_gradients_are_those_of_mmcvs_own_form(where: torch.device) -> None:
    inputs = [tensor.to(where) for tensor in many(torch.float64)]
    for ours, theirs in zip(gradients(deformable_attention, inputs), gradients(mmcv_form(), inputs), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)


@pytest.mark.slow
def test_nothing_depends_on_the_number_of_threads() -> None:
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(gradients(deformable_attention, many(torch.float32)))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))


@both_ways
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_rounds_inputs_and_results_alone(
    where: torch.device, attend: Callable, dtype: torch.dtype
) -> None:
    low = [tensor.to(where).requires_grad_() for tensor in some(dtype)]
    high = [tensor.detach().float().requires_grad_() for tensor in low]
    found, expected = (attend(value, SHAPES, *others) for value, *others in (low, high))
    assert found.dtype == dtype
    assert torch.equal(found, expected.to(dtype))
    for ours, theirs in zip(
        torch.autograd.grad(found.sum(), low), torch.autograd.grad(expected.sum(), high), strict=True
    ):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours.float(), theirs, atol=1e-2, rtol=1e-2)


def test_a_nan_stays_one() -> None:
    """A diverged model gives a NaN, which the engine sees, and no read beyond the values."""
    value, locations, weights = some()
    locations[0, 0, 0, 0, 0] = float("nan")
    locations[0, 1, 0, 0, 0] = float("inf")
    found = deformable_attention(value, SHAPES, locations, weights)
    assert found[0, 0, :DIM].isnan().all()
    assert found[0, 1:].isfinite().all()
    assert found[1].isfinite().all()


def test_mmcvs_module_takes_it_and_keeps_locations_whole_under_autocast(where: torch.device) -> None:
    from mmcv.ops import MultiScaleDeformableAttention, multi_scale_deform_attn

    assert multi_scale_deform_attn.multi_scale_deformable_attn_pytorch is deformable_attention
    torch.manual_seed(0)
    layer = MultiScaleDeformableAttention(embed_dims=32, num_heads=4, num_levels=1, dropout=0.0, batch_first=True)
    layer.to(where)
    # A ramp along a wide map, at places that bfloat16 would round by up to a cell.
    ramp = torch.arange(256.0, device=where).view(1, 256, 1).expand(1, 256, 32) / 256
    query = torch.zeros(1, 200, 32, device=where)
    reference = torch.stack([torch.linspace(0.5, 0.95, 200), torch.full((200,), 0.5)], -1).view(1, 200, 1, 2).to(where)
    with torch.no_grad():
        layer.value_proj.weight.copy_(torch.eye(32))
        layer.output_proj.weight.copy_(torch.eye(32))
        layer.sampling_offsets.bias.zero_()
    options = {"value": ramp, "reference_points": reference, "identity": torch.zeros_like(query)}
    options["spatial_shapes"] = torch.tensor([[1, 256]], device=where)
    options["level_start_index"] = torch.tensor([0], device=where)
    with torch.autocast(where.type, torch.bfloat16):
        found = layer(query, **options)
    found.float().sum().backward()
    assert layer.sampling_offsets.weight.grad is not None
    expected = (reference[0, :, 0, 0] * 256 - 0.5) / 256
    # Half a step of bfloat16 there is 1/512, for the result; rounded locations would be off by as much again.
    assert (found[0, :, 0].float() - expected).abs().max() < 1.05 / 512
