"""Training whose weights, gradients and optimizer state are divided over processes: PyTorch's `fully_shard`.

The layers of a transformer are gathered one at a time, for their part of a forward or a backward pass; what is left of
a model (embeddings, heads, norms) is gathered as one. Weights are divided in float32, and on GPUs those of layers are
gathered in the half precision that a training computes in; the rest, in which there are heads that compute in float32,
is gathered as it is. Gradients are added up in float32.

A model is sharded as a copy, and the model itself stays what it was but for its values (`emptied`), so that what needs
a whole model (validation, the file at the end, parameter groups by dimensions) takes that one, `filled`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from harness import distributed
from harness.device import HALF

M = TypeVar("M", bound=nn.Module)


def gathered(precision: str, where: torch.device) -> torch.dtype | None:
    """Type in which layers gather their weights, None for float32.

    It is that of the products, except on a CPU, where LayerNorm takes no weights of another type than its input.
    """
    return HALF.get(precision) if where.type == "cuda" else None


def copied(model: M) -> M:
    """A copy of the modules and buffers of a model, with the same parameters: what becomes of them is up to `shard`."""
    return copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})


def shard(model: nn.Module, *, where: torch.device, half: torch.dtype | None) -> None:
    """Divide the parameters of a model over all processes, in place; an optimizer has to be made afterwards.

    A parameter without dimensions, such as `logit_scale`, gets one, since that is what is divided.

    Args:
        where: the device of this process, to which the model is moved layer by layer.
        half: type that layers gather their weights in; None for float32.
    """
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.dim():
                setattr(module, name, nn.Parameter(parameter.detach().reshape(1), parameter.requires_grad))
    mesh = init_device_mesh(where.type, (distributed.world_size(),))
    reduced = torch.float32 if half else None
    policy = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=reduced, cast_forward_inputs=False)
    for layer in _layers(model):
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, reshard_after_forward=False)
    model.to(where)


def _layers(model: nn.Module) -> Iterable[nn.Module]:
    """The layers of all backbones in a model."""
    for module in model.modules():
        yield from getattr(module, "repeated", ())


def emptied(model: nn.Module) -> None:
    """Free the values of a model's parameters, which keep their names and shapes."""
    for parameter in model.parameters():
        parameter.data = parameter.data.new_empty([1] * parameter.dim(), device="cpu").expand(parameter.shape)


def filled(model: nn.Module, sharded: nn.Module) -> None:
    """Give a model, on the CPU, the values of its sharded copy; every process has to call."""
    divided = dict(sharded.named_parameters())
    for name, parameter in model.named_parameters():
        parameter.data = divided[name].full_tensor().detach().cpu().reshape(parameter.shape)
    buffers = dict(sharded.named_buffers())
    for name, buffer in model.named_buffers():
        buffer.copy_(buffers[name])


@contextmanager
def whole(model: M, sharded: nn.Module) -> Iterator[M]:
    """The model with the values of its sharded copy, for this time; every process has to call, and may use it alone."""
    filled(model, sharded)
    try:
        yield model
    finally:
        emptied(model)


def divided_again(sharded: nn.Module) -> None:
    """Free what a forward pass without gradients has left gathered."""
    for module in sharded.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def like(value: Tensor, own: Tensor) -> Tensor:
    """This process's part of a whole tensor, divided as `own` is; all of it where that is not divided.

    One without dimensions becomes one of a dimension, and the other way round, where `own` is so.
    """
    if {value.shape, own.shape} == {torch.Size(()), torch.Size((1,))}:
        value = value.reshape(own.shape)
    if not isinstance(own, DTensor):
        return value
    return distribute_tensor(value.to(own.device), own.device_mesh, own.placements, src_data_rank=None)


def local(value: Tensor) -> Tensor:
    """This process's part of a tensor."""
    return value.to_local() if isinstance(value, DTensor) else value
