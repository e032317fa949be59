"""Sigmoid focal loss (Lin et al. 2017, arXiv:1708.02002) and its gradient."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.operators.precision import widened


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, *, gamma: float, alpha: float
) -> None:
    """The loss of every logit: -a (1 - q)^gamma log q, with q the probability of what is true.

    Args:
        input: [n, classes] logits.
        target: [n] int64 class of each row; the number of classes for background.
        weight: [classes] of the rows by their class, or empty; background weighs 1.
        output: [n, classes], filled.
        alpha: a where the logit is of the row's class; a is 1 - alpha elsewhere.
    """
    log_q, scale, _ = _parts(input, target, weight, alpha)
    output.copy_(-scale * (1 - log_q.exp()) ** gamma * log_q)


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, *, gamma: float, alpha: float
) -> None:
    """Fills `grad_input` [n, classes] with the derivative of each loss by its logit."""
    log_q, scale, sign = _parts(input, target, weight, alpha)
    q = log_q.exp()
    grad_input.copy_(-scale * sign * (1 - q) ** gamma * (1 - q - gamma * q * log_q))


def _parts(input: Tensor, target: Tensor, weight: Tensor, alpha: float) -> tuple[Tensor, Tensor, Tensor]:
    """log q, a times the row's weight, and +1 where the logit is of the row's class, -1 elsewhere: [n, classes]."""
    (logits,) = widened(input)
    own = target[:, None] == torch.arange(input.shape[1], device=input.device)
    sign = torch.where(own, 1.0, -1.0).to(logits)
    scale = torch.where(own, alpha, 1 - alpha).to(logits)
    if weight.numel():
        scale = scale * torch.cat([weight, weight.new_ones(1)])[target, None]
    return F.logsigmoid(sign * logits), scale, sign
