from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.model import BaseModel

from backbones.linear import Linear
from harness.device import computes_bf16, device
from harness.inference import predict
from harness.predictions import read
from tasks.adapter import Sample
from tasks.recipe import Recipe

NEEDS_BF16 = pytest.mark.skipif(not computes_bf16(device()), reason="no bfloat16 in hardware")
VALUES = [0.0, 1.0, 2.0, 3.0, 4.0]


class Doubler(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.twice = Linear(1, 1)
        with torch.no_grad():
            self.twice.weight.fill_(2)
            self.twice.bias.zero_()

    def forward(self, value: torch.Tensor, mode: str) -> list[dict]:
        return [{"doubled": float(row)} for row in self.twice(value)]


@pytest.mark.skipif(device().type != "cpu", reason="weights are arranged for a CPU")
@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=NEEDS_BF16)])
def test_weights_are_arranged_once_for_all_batches(tmp_path: Path, precision: str) -> None:
    items = [{"value": torch.tensor([value])} for value in VALUES]
    samples = [Sample(str(index), None, None) for index in range(len(VALUES))]
    recipe = Recipe(
        name="tiny", source="", image_size=8, batch_size=2, lr=0.0, micro_batch=2, workers=0, precision=precision
    )
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, acc_events=True) as profile:
        predicted = predict(Doubler(), items, samples, recipe, target=tmp_path / "val.jsonl")
    calls = {event.key: event.count for event in profile.key_averages()}
    assert (calls["mkldnn::_reorder_linear_weight"], calls["mkldnn::_linear_pointwise"]) == (1, 3)
    records = read(predicted.path)
    assert [record["doubled"] for record in records] == [2 * value for value in VALUES]
