from __future__ import annotations

import pytest
import torch
from mmengine.model import BaseModel

from harness import peak


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NVIDIA H200", 989e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("Tesla V100-SXM2-32GB", 125e12),
        ("Tesla T4", 65e12),
        ("NVIDIA A1000", None),
        ("CPU AMD EPYC", None),
    ],
)
def test_peaks_are_found_by_whole_words_of_the_name(name: str, expected: float | None) -> None:
    assert peak.peak(name) == expected


class Products(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(8, 16, bias=False)

    def forward(self, inputs: torch.Tensor, mode: str) -> dict[str, torch.Tensor]:
        assert not self.training
        return {"loss": self.layer(inputs).sum()}


def test_a_step_has_three_times_the_products_of_a_forward_pass() -> None:
    model = Products().train()
    assert peak.step_flops(model, {"inputs": torch.zeros(5, 8)}) == 3 * 2 * 5 * 8 * 16
    assert model.training


def test_an_unknown_device_has_no_share() -> None:
    assert peak.share(1e12, 1.0, "NVIDIA A100-SXM4-80GB", devices=2) == pytest.approx(1 / 624)
    assert peak.share(1e12, 1.0, "CPU AMD EPYC", devices=1) == "unknown device"
