from __future__ import annotations

import pytest
import torch

from backbones import attention


def parts() -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, 3, 5, 8) for _ in range(3)]


@pytest.mark.parametrize("biased", [False, True])
def test_equals_the_definition(biased: bool) -> None:
    query, key, value = parts()
    bias = torch.randn(2, 1, 5, 5) if biased else None
    scores = query @ key.transpose(-1, -2) / 8**0.5
    expected = (scores + (0 if bias is None else bias)).softmax(-1) @ value
    torch.testing.assert_close(attention.attend(query, key, value, bias), expected)


def test_cudnn_is_left_out_of_biased_attention_on_a_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = attention.sdpa_kernel
    monkeypatch.setattr(attention, "sdpa_kernel", lambda kernels: calls.append(kernels) or original(kernels))
    query, key, value = parts()
    attention.attend(query, key, value, torch.zeros(5, 5))
    assert calls == []
    assert torch.nn.attention.SDPBackend.CUDNN_ATTENTION not in attention.WITH_BIAS

    class OnGpu(torch.Tensor):
        device = torch.device("cuda")

    attention.attend(query.as_subclass(OnGpu), key, value, torch.zeros(5, 5))
    attention.attend(query.as_subclass(OnGpu), key, value, None)
    assert calls == [attention.WITH_BIAS]
