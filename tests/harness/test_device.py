from __future__ import annotations

import pytest
import torch

from harness import device
from tasks.common.dense_recipe import DenseRecipe
from tasks.recipe import Recipe


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


@pytest.mark.parametrize(("where", "asked", "meant"), [
    ("cuda", "auto", "fp16"), ("cpu", "auto", "fp32"), ("cuda", "bf16", "bf16"), ("cpu", "fp16", "fp16"),
])  # fmt: skip
def test_prediction_is_nearer_to_float32_than_training(
    monkeypatch: pytest.MonkeyPatch, where: str, asked: str, meant: str
) -> None:
    monkeypatch.setattr(device, "computes_bf16", lambda _: True)
    options = {"name": "test", "source": "", "image_size": 32, "batch_size": 8, "lr": 1e-3, "precision": asked}
    assert device.prediction_precision(Recipe(**options), torch.device(where)) == meant
    # A dense head would not tell an overflow of float16.
    dense = device.prediction_precision(DenseRecipe(**options), torch.device(where))
    assert dense == ("bf16" if asked == "auto" else asked)
