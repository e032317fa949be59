"""The linear layer's path for inference on a CPU against PyTorch's own."""

from __future__ import annotations

import contextlib
import copy

import pytest
import torch
from torch import Tensor, nn

from backbones.linear import Linear, for_products, packed, product_dtype
from tests.backbones.test_multiway import pair, small

NEEDS_BF16 = pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="no bfloat16 in hardware")
INFERENCE = {"no_grad": torch.no_grad, "inference_mode": torch.inference_mode}


def layer(*, bias: bool = True) -> Linear:
    torch.manual_seed(0)
    return Linear(48, 80, bias=bias).eval()


def inputs(*shape: int) -> Tensor:
    return torch.randn(*shape, 48, generator=torch.Generator().manual_seed(len(shape)))


def plain(linear: Linear, x: Tensor) -> Tensor:
    return nn.functional.linear(x, linear.weight, linear.bias)


@pytest.mark.parametrize("mode", INFERENCE)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(3,), (2, 197), (0, 5)])
def test_packed_weights_give_the_same_product(shape: tuple[int, ...], bias: bool, mode: str) -> None:
    linear, x = layer(bias=bias), inputs(*shape)
    with INFERENCE[mode](), packed(linear):
        torch.testing.assert_close(linear(x), plain(linear, x))
        torch.testing.assert_close(linear.forward_gelu(x), nn.functional.gelu(plain(linear, x)))


@pytest.mark.parametrize("cast", [pytest.param(False, id="fp32"), pytest.param(True, id="autocast", marks=NEEDS_BF16)])
def test_weights_are_arranged_once(cast: bool) -> None:
    linear, x = layer(), inputs(2, 5)
    activities = [torch.profiler.ProfilerActivity.CPU]
    with (
        torch.inference_mode(),
        torch.autocast("cpu", torch.bfloat16, enabled=cast),
        packed(linear),
        torch.profiler.profile(activities=activities, acc_events=True) as profile,
    ):
        for _ in range(3):
            linear(x)
    calls = {event.key: event.count for event in profile.key_averages()}
    assert (calls["mkldnn::_reorder_linear_weight"], calls["mkldnn::_linear_pointwise"]) == (1, 3)


def test_packed_weights_under_autocast_give_autocasts_product() -> None:
    linear, x = layer(), inputs(2, 197)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        expected = linear(x)
        with packed(linear):
            found = linear(x)
    assert found.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected)


def test_what_is_packed_in_one_precision_is_not_used_in_another() -> None:
    linear, x = layer(), inputs(2, 197)
    with torch.inference_mode(), packed(linear):
        with torch.autocast("cpu", torch.bfloat16):
            linear(x)
        torch.testing.assert_close(linear(x), plain(linear, x))


def test_the_copy_goes_with_the_context_also_after_an_error() -> None:
    linear, x = layer(), inputs(2, 5)
    with contextlib.suppress(ZeroDivisionError), torch.inference_mode(), packed(linear):
        linear(x)
        raise ZeroDivisionError
    with torch.no_grad():
        linear.weight.mul_(2)
        torch.testing.assert_close(linear(x), plain(linear, x))
        with packed(linear):  # weights that changed in between are packed anew
            torch.testing.assert_close(linear(x), plain(linear, x))


def test_gradients_flow_as_without() -> None:
    linear, x = layer(), inputs(2, 5)
    with packed(linear):
        linear(x).sum().backward()
    torch.testing.assert_close(linear.weight.grad, x.sum((0, 1)).expand(80, 48))


def test_a_state_dict_and_a_copy_know_nothing_of_it() -> None:
    linear, x = layer(), inputs(2, 5)
    with torch.inference_mode(), packed(linear):
        linear(x)
        assert set(linear.state_dict()) == {"weight", "bias"}
    assert torch.equal(copy.deepcopy(linear).weight, linear.weight)


@pytest.mark.parametrize("cast", [False, True], ids=["fp32", "autocast"])
def test_a_whole_backbone_gives_the_same_tokens(cast: bool) -> None:
    model, (image, text) = small(), pair()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=cast):
        expected = model(image, text).tokens
        with packed(model):
            found = model(image, text).tokens
    # bfloat16 has 8 bits, and four layers round what they pass on.
    torch.testing.assert_close(found, expected, atol=0.1 if cast else 1e-4, rtol=0.05 if cast else 1e-5)


def test_the_type_of_products_is_autocasts_or_the_inputs() -> None:
    x = inputs(2, 5)
    with torch.autocast("cpu", torch.float16):
        assert product_dtype(x) == torch.float16
        with torch.no_grad():
            assert for_products(x).dtype == torch.float16
        assert for_products(x) is x  # each layer casts for itself, and its gradient is widened before the sum
    assert product_dtype(x.double()) == torch.float64
    assert product_dtype(x.to("meta")) == torch.float32  # a device without autocast
