from __future__ import annotations

import pytest
import torch

from harness import device


@pytest.mark.parametrize(
    ("where", "has_bf16", "meant"),
    [("cuda", True, "bf16"), ("cuda", False, "fp16"), ("cpu", True, "bf16"), ("cpu", False, "fp32")],
)
def test_auto_is_the_fast_precision_of_the_device(
    monkeypatch: pytest.MonkeyPatch, where: str, has_bf16: bool, meant: str
) -> None:
    monkeypatch.setattr(device, "computes_bf16", lambda _: has_bf16)
    assert device.precision("auto", torch.device(where)) == meant
    assert device.precision("fp16", torch.device(where)) == "fp16"


@pytest.mark.parametrize(("chosen", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16), ("fp32", None)])
def test_products_are_computed_in_the_chosen_precision(chosen: str, dtype: torch.dtype | None) -> None:
    with device.autocast(chosen, torch.device("cpu")):
        assert torch.nn.Linear(2, 2)(torch.randn(1, 2)).dtype == (dtype or torch.float32)
