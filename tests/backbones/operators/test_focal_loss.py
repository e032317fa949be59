from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import torchvision

CLASSES = 4


def some(where: torch.device | str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of ten rows, and classes among which is the background."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(10, CLASSES, generator=generator)
    return logits.to(where), (torch.arange(10) % (CLASSES + 1)).to(where)


def one_hot(target: torch.Tensor) -> torch.Tensor:
    return F.one_hot(target, CLASSES + 1)[:, :CLASSES].float()


@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, 0.25), (0.0, 0.5), (1.5, 0.9)])
def test_values_and_gradients_are_torchvisions(where: torch.device, gamma: float, alpha: float) -> None:
    from mmcv.ops import sigmoid_focal_loss

    logits, target = some(where)
    ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
    found = sigmoid_focal_loss(ours, target, gamma, alpha, None, "none")
    expected = torchvision.ops.sigmoid_focal_loss(theirs, one_hot(target), alpha=alpha, gamma=gamma)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    weighting = torch.linspace(0.5, 2, found.numel(), device=where).view_as(found)
    (found * weighting).sum().backward()
    (expected * weighting).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-5, rtol=1e-5)


def test_reductions_and_weights_of_classes() -> None:
    from mmcv.ops import sigmoid_focal_loss

    logits, target = some()
    each = torchvision.ops.sigmoid_focal_loss(logits, one_hot(target), alpha=0.25, gamma=2.0)
    weight = torch.tensor([1.0, 2.0, 3.0, 4.0])
    weighted = each * torch.tensor([1.0, 2.0, 3.0, 4.0, 1.0])[target, None]  # of the row's class; background 1
    # mmcv's mean is over rows.
    for reduction, expected in (("none", weighted), ("sum", weighted.sum()), ("mean", weighted.sum() / 10)):
        torch.testing.assert_close(sigmoid_focal_loss(logits, target, 2.0, 0.25, weight, reduction), expected)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_gradients_are_finite_differences(reduction: str) -> None:
    from mmcv.ops import sigmoid_focal_loss

    logits, target = some()
    logits = logits.double().requires_grad_()
    weight = torch.tensor([1.0, 2.0, 3.0, 4.0]).double()
    assert torch.autograd.gradcheck(lambda x: sigmoid_focal_loss(x, target, 2.0, 0.25, weight, reduction), logits)


def test_large_logits_stay_finite() -> None:
    from mmcv.ops import sigmoid_focal_loss

    logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
    loss = sigmoid_focal_loss(logits, torch.tensor([1]), 2.0, 0.25, None, "none")
    assert loss[0].tolist() == pytest.approx([0.75 * 200, 0.25 * 200])
    loss.sum().backward()
    assert logits.grad[0].tolist() == pytest.approx([0.75, -0.25])
