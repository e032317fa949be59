"""AdamW as the official fine-tuning code sets it up: parameter groups, schedule, precision."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from backbones.errors import InputError, UsageError
from backbones.parameter_groups import layer_scale, without_weight_decay
from harness.device import autocast
from harness.sharding import like
from tasks.recipe import Recipe

BACKBONE = "beit3."  # where task models hold their backbone


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict]:
    """AdamW groups with `lr_scale` and `weight_decay`, and the `names` of their parameters.

    With layer decay a parameter's scale is that of its depth (`layer_scale`); the recipe's `low_lr_parts` have that of
    the embeddings. Without it, parameters whose name starts with "head" get `head_lr_scale`. `recipe.decays` says which
    parameters have weight decay (`without_weight_decay`). Source: unilm beit3/optim_factory.py.
    """
    backbone = model.beit3
    spared = without_weight_decay(model, prefix=BACKBONE, decays=recipe.decays)
    if recipe.decays != "all":
        spared |= {"logit_scale"}
    groups: dict[tuple[float, float], dict] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        key = (_lr_scale(name, backbone, recipe), 0.0 if name in spared else recipe.weight_decay)
        group = groups.setdefault(key, {"params": [], "names": [], "lr_scale": key[0], "weight_decay": key[1]})
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())


def _lr_scale(name: str, backbone: nn.Module, recipe: Recipe) -> float:
    if recipe.layer_decay < 1.0:
        if name.startswith(recipe.low_lr_parts):
            return recipe.layer_decay ** (backbone.num_layers + 1)
        inside = name.removeprefix(BACKBONE) if name.startswith(BACKBONE) else None
        return layer_scale(backbone, inside, decay=recipe.layer_decay)
    return recipe.head_lr_scale if name.startswith("head") else 1.0


def cosine_schedule(*, peak: float, final: float, start: float, steps: int, warmup_steps: int) -> np.ndarray:
    """Learning rate of every optimizer step: linear from `start` to `peak`, then a cosine towards `final`.

    The warm-up's last step is at the peak already, and the cosine never quite reaches `final`: the official
    code's conventions (unilm beit3/utils.py, cosine_scheduler).
    """
    warmup = np.linspace(start, peak, warmup_steps)
    after = np.arange(steps - warmup_steps)
    cosine = final + 0.5 * (peak - final) * (1 + np.cos(np.pi * after / max(len(after), 1)))
    return np.concatenate([warmup, cosine])


def poly_schedule(*, peak: float, start: float, steps: int, warmup_steps: int) -> np.ndarray:
    """Learning rate of every optimizer step: a line from `peak` to 0, and a warm-up that multiplies it.

    As MMSegmentation's `poly` policy with power 1 and linear warm-up computes it (mmcv 1.x, lr_updater.py).
    """
    falling = peak * (1 - np.arange(steps) / steps)
    return falling * _warmup_factor(steps, warmup_steps, first=start / peak)


def step_schedule(
    *, peak: float, start: float, steps: int, warmup_steps: int, milestones: Sequence[float]
) -> np.ndarray:
    """Learning rate of every optimizer step: `peak`, a tenth of it from each milestone on, and a linear warm-up.

    Args:
        milestones: as shares of the length. Source: detectron2's WarmupMultiStepLR.
    """
    passed = (np.arange(steps)[:, None] >= np.round(steps * np.asarray(milestones))).sum(1)
    return peak * 0.1**passed * _warmup_factor(steps, warmup_steps, first=start / peak)


def _warmup_factor(steps: int, warmup_steps: int, *, first: float) -> np.ndarray:
    """Factor of a warm-up: linear from `first` to 1 at step `warmup_steps`."""
    done = np.minimum(np.arange(steps) / warmup_steps, 1.0) if warmup_steps else np.ones(steps)
    return first + (1 - first) * done


def recipe_schedule(recipe: Recipe, *, steps_per_epoch: int) -> np.ndarray:
    """Learning rate of every optimizer step of a recipe.

    Raises:
        UsageError: the warm-up is longer than the training.
    """
    steps = recipe.steps or recipe.epochs * steps_per_epoch
    warmup_steps = recipe.warmup_steps or recipe.warmup_epochs * steps_per_epoch
    if warmup_steps > steps:
        raise UsageError(
            f"The warm-up of {warmup_steps} steps is more than the {steps} steps of the training, on this little data. "
            "Shorten it: --set warmup_steps=0."
        )
    shared = {"peak": recipe.lr, "start": recipe.start_lr, "steps": steps, "warmup_steps": warmup_steps}
    if recipe.schedule == "poly":
        return poly_schedule(**shared)
    if recipe.schedule == "step":
        return step_schedule(**shared, milestones=recipe.milestones)
    return cosine_schedule(**shared, final=recipe.min_lr)


def adamw(model: nn.Module, recipe: Recipe, *, trained: nn.Module | None = None) -> torch.optim.AdamW:
    """Make the optimizer of a recipe; its learning rates are set before each step from the schedule.

    Args:
        trained: a copy of the model whose parameters are optimized in place of its own, in the groups of those of the
            same names: a sharded one, whose modules and dimensions may be others.
    """
    groups = parameter_groups(model, recipe)
    if trained is not None:
        own = dict(trained.named_parameters())
        groups = [{**group, "params": [own[name] for name in group["names"]]} for group in groups]
    # One by one, the updates of divided parameters cost more than the rest of a small model's step on a CPU.
    foreach = None if trained is None else True
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=(recipe.beta1, recipe.beta2), eps=recipe.eps, foreach=foreach)


LEAST_LOSS_SCALE = 1.0
STEP, MOMENTS = "step", ("exp_avg", "exp_avg_sq")  # AdamW's state of a parameter


class ScaledOptimizer:
    """An optimizer with mixed precision and gradient clipping, on the CPU too.

    bfloat16 has float32's range; float16's gradients are computed of a loss that is multiplied with a scale, which goes
    with the optimizer's state. A step whose gradients overflow changes no weight and halves the scale; it counts as a
    step, as in the official code.

    Args:
        precision: "fp32", "bf16" or "fp16".
        clip_grad: largest norm of all gradients together.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        precision: str,
        device: torch.device,
        clip_grad: float | None = None,
    ) -> None:
        self._optimizer = optimizer
        self._precision = precision
        self._device = device
        self._clip_grad = clip_grad
        self._scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of every parameter group, times the group's `lr_scale`."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)

    def autocast(self) -> AbstractContextManager:
        """The context of a forward pass."""
        return autocast(self._precision, self._device)

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a loss to those that the next step takes."""
        self._scaler.scale(loss).backward()

    def step(self) -> Tensor | None:
        """Update the weights and forget the gradients; returns the gradients' norm before clipping, if there is any.

        Raises:
            InputError: gradients overflow float16 at every scale.
        """
        norm = None
        if self._clip_grad:
            self._scaler.unscale_(self._optimizer)
            parameters = [parameter for group in self._optimizer.param_groups for parameter in group["params"]]
            norm = nn.utils.clip_grad_norm_(parameters, self._clip_grad)
            norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad()
        if self._scaler.is_enabled() and self._scaler.get_scale() < LEAST_LOSS_SCALE:
            raise InputError(
                "The gradients overflow float16 whatever the loss is multiplied with: some activation or gradient is "
                "too large for it. Train with --set precision=bf16 (where the device has it) or --set precision=fp32, "
                "in another --out folder."
            )
        return norm

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's state, and the scale of the loss with fp16."""
        return self._optimizer.state_dict() | ({"loss_scale": scale} if (scale := self._scaler.state_dict()) else {})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state from `state_dict`; `precision=auto` may have been another precision where the run began.

        Raises:
            ValueError: it has no moments, or those of other parameters.
        """
        own = [parameter for group in self._optimizer.param_groups for parameter in group["params"]]
        placed = {
            index: {kind: value if kind == STEP else like(value, own[index]) for kind, value in moments.items()}
            for index, moments in state["state"].items()
        }
        self._optimizer.load_state_dict({"state": placed, "param_groups": state["param_groups"]})
        moments = self._optimizer.state
        if not moments and "loss_scale" not in state:  # only overflowing steps leave none
            raise ValueError("the optimizer's moments are missing")
        for parameter, own in moments.items():
            if any(value.dim() and value.shape != parameter.shape for value in own.values()):
                raise ValueError("the optimizer's moments have other shapes than the parameters")
        self.loss_scale = state.get("loss_scale")

    @property
    def loss_scale(self) -> dict[str, Any] | None:
        """State of the scale that losses are multiplied with; None where they are not."""
        return self._scaler.state_dict() or None

    @loss_scale.setter
    def loss_scale(self, state: Mapping[str, Any] | None) -> None:
        if state and self._scaler.is_enabled():
            self._scaler.load_state_dict(dict(state))

    def moments(self) -> dict[str, Tensor]:
        """Adam's state under names such as `head.weight.exp_avg`; parameters without an update so far have none."""
        return {
            f"{name}.{kind}": value
            for name, parameter in self._named().items()
            for kind, value in self._optimizer.state.get(parameter, {}).items()
        }

    def begin(self, names: Collection[str]) -> None:
        """Make Adam's state of 0 under the names of `moments`, to be filled.

        Raises:
            KeyError: there is no such parameter.
            ValueError: it has another state, or a part of one.
        """
        own = self._named()
        for name in names:
            parameter, kind = own[name.rpartition(".")[0]], name.rpartition(".")[2]
            self._optimizer.state[parameter][kind] = torch.zeros(()) if kind == STEP else torch.zeros_like(parameter)
        if any(state.keys() != {STEP, *MOMENTS} for state in self._optimizer.state.values()):
            raise ValueError("the optimizer's moments are not whole")

    def _named(self) -> dict[str, Tensor]:
        groups = self._optimizer.param_groups
        return {name: own for group in groups for name, own in zip(group["names"], group["params"], strict=True)}
