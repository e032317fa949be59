from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from backbones.errors import InputError
from tasks.pretraining.probe import SIZE, ContrastiveProbe

IMAGES = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6]])
TEXTS = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])


class Numbers(Dataset):
    def __init__(self, count: int) -> None:
        self._count = count
        self.asked: list[int] = []

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Tensor:
        self.asked.append(index)
        return torch.tensor(index)

    def collate(self, items: Sequence[Tensor]) -> dict[str, Tensor]:
        return {"image": torch.stack(list(items))}


class Encoder(nn.Module):
    """Features by number, and a logit scale of 2."""

    def __init__(self, *, finite: bool = True) -> None:
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor(math.log(2.0)))
        self._finite = finite

    def forward(self, image: Tensor, mode: str) -> tuple[Tensor, Tensor]:
        assert not self.training
        if not self._finite:
            raise InputError("not finite")
        return IMAGES[image], TEXTS[image]


def test_loss_and_accuracies_are_those_of_a_small_case() -> None:
    model = Encoder().train()
    found = ContrastiveProbe(Numbers(3))(model)
    logits = [[2.0 * sum(a * b for a, b in zip(x, y, strict=True)) for y in TEXTS.tolist()] for x in IMAGES.tolist()]

    def loss(rows: Sequence[Sequence[float]]) -> float:
        return sum(math.log(sum(map(math.exp, row))) - row[own] for own, row in enumerate(rows)) / len(rows)

    expected = (loss(logits) + loss(list(zip(*logits, strict=True)))) / 2
    assert found["contrastive_loss"] == pytest.approx(expected, abs=1e-5)
    # Image 1 is nearest to text 2, image 2 to text 1; text 1 to image 2, text 2 to image 1.
    assert (found["image_accuracy"], found["text_accuracy"]) == pytest.approx((1 / 3, 1 / 3))
    assert found["scale"] == pytest.approx(2.0)
    assert model.training


def test_pairs_are_evenly_spaced_and_the_training_s_random_numbers_stay() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    items = Numbers(1000)
    ContrastiveProbe(items)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert items.asked == list(range(0, 7 * SIZE, 7))


def test_features_that_are_not_finite_are_no_error_here() -> None:
    assert all(math.isnan(value) for value in ContrastiveProbe(Numbers(3))(Encoder(finite=False)).values())
