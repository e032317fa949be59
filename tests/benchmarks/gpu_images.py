"""Cost of images alone on a GPU: forward and training step, ours and torchscale's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import backbones
from backbones import MultiwayConfig
from backbones.multiway import Multiway
from backbones.windowed import WindowedMultiway
from tests.benchmarks import peers
from tests.benchmarks.gpu_measuring import Comparison, Machine, Measurement, Work, training_step
from tests.benchmarks.peers import Peer

CLASSES = 1000

Make = Callable[[MultiwayConfig], Peer]


def config(size: str) -> MultiwayConfig:
    return backbones.resolve(peers.SIZES[size], final_norm=False)


def forward_flops(config: MultiwayConfig) -> float:
    """Floating-point operations of the matrix products of one image's forward; a multiply-add is two.

    Per token and layer: 2 · (4 D² + 2 D F) for the four projections and the feed-forward's two, and 4 K D for the
    attention's two products with K keys (scores and mixing). The patch embedding is one product of
    patches × 3 P² × D. In windows of S × S a token has S² keys, and products with 2 S relative positions, 2 D each;
    what the windows are padded with is no work of the model. Norms, GELU, softmax and residuals are left out: they
    are no work for matrix units.
    """
    patches = config.grid**2
    tokens = patches + _class(config).prefix_tokens
    linear = 2 * (4 * config.dim**2 + 2 * config.dim * config.ffn_dim)
    embedding = 2 * patches * 3 * config.patch_size**2 * config.dim
    total = embedding
    for layer in range(config.layers):
        everywhere = not config.window or layer in config.global_layers
        side = config.grid if everywhere else config.window
        keys = tokens if everywhere else side**2
        positions = 2 * 2 * side * config.dim if config.window else 0
        total += tokens * (linear + 4 * keys * config.dim + positions)
    return total


def _class(config: MultiwayConfig) -> type[Multiway]:
    return WindowedMultiway if config.window else Multiway


def training_flops(config: MultiwayConfig) -> float:
    """Of one image's training step: the backward pass has two products for each one of the forward."""
    return 3 * forward_flops(config)


def forward(machine: Machine, config: MultiwayConfig, batch: int, *, make: Make, compiled: bool = False) -> Work:
    """The tokens of a batch, the model in the machine's precision."""
    peer = made(make, config, machine)
    model = peer.model.to(machine.dtype).eval()
    if compiled:
        model = torch.compile(model)
    image = peers.random_images(config, batch, device=machine.device).to(machine.dtype)

    @torch.inference_mode()
    def step() -> Tensor:
        return peer.encode(model, image)

    return Work(step=step, flops=batch * forward_flops(config), images=batch)


class Trainee(nn.Module):
    """A model with a linear head on its mean token; returns the loss."""

    def __init__(self, peer: Peer, config: MultiwayConfig) -> None:
        super().__init__()
        self.model = peer.model
        self.head = nn.Linear(config.dim, CLASSES)
        self._encode = peer.encode

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        logits = self.head(self._encode(self.model, image).mean(1))
        return F.cross_entropy(logits.float(), label)


def training(machine: Machine, config: MultiwayConfig, batch: int, *, make: Make, compiled: bool = False) -> Work:
    """One optimizer step."""
    peer = made(make, config, machine)
    _freeze_unused_by_images(peer.model, config)
    model = Trainee(peer, config).to(machine.device).train()
    run = torch.compile(model) if compiled else model
    image = peers.random_images(config, batch, device=machine.device)
    label = torch.arange(batch, device=machine.device) % CLASSES
    step = training_step(machine, model, lambda: run(image, label))
    return Work(step=step, flops=batch * training_flops(config), images=batch)


def made(make: Make, config: MultiwayConfig, machine: Machine) -> Peer:
    torch.manual_seed(0)
    with machine.device:  # initialising a large model on the CPU takes longer than measuring it
        peer = make(config)
    peer.model.to(machine.device)
    return peer


def _freeze_unused_by_images(model: nn.Module, config: MultiwayConfig) -> None:
    """`Multiway.freeze_unused_by_images`, for every model with the same parameter names."""
    with torch.device("meta"):
        reference = _class(config)(config)
    reference.freeze_unused_by_images()
    trained = {name for name, parameter in reference.named_parameters() if parameter.requires_grad}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained)


def ours_checkpointed(config: MultiwayConfig) -> Peer:
    return peers.ours(replace(config, checkpoint_activations=True))


FORWARD = {"base": 256, "large": 128, "nano": 2}
TRAINING = {"base": 128, "large": 64, "nano": 2}


def difference(machine: Machine, size: str) -> float:
    """Largest difference of our fp32 outputs from torchscale's."""
    ours, other = (made(make, config(size), machine) for make in (peers.ours, peers.torchscale))
    peers.vary(ours.model)
    peers.copy_weights(ours.model, other)
    return peers.largest_difference(ours, other, peers.random_images(config(size), 2, device=machine.device))


def _lacks_torchscale() -> str:
    return "" if peers.has_torchscale() else peers.TORCHSCALE_ABSENT


def _measurement(
    work: str, of: Callable[..., Work], batches: Mapping[str, int], model: str, variant: str, make: Make
) -> Measurement:
    def prepare(machine: Machine, size: str, batch: int) -> Work:
        return of(machine, config(size), batch, make=make, compiled=variant == "compile")

    lacks = {"lacks": _lacks_torchscale} if model == "torchscale" else {}
    return Measurement(work=work, model=model, variant=variant, prepare=prepare, batches=batches, **lacks)


_forward = partial(_measurement, "forward", forward, FORWARD)
_training = partial(_measurement, "training", training, TRAINING)

EAGER: Sequence[Measurement] = (
    _forward("ours", "eager", peers.ours),
    _forward("torchscale", "eager", peers.torchscale),
    _training("ours", "eager", peers.ours),
    _training("torchscale", "eager", peers.torchscale),
    _training("ours", "checkpointing", ours_checkpointed),
)
COMPILED: Sequence[Measurement] = (
    _forward("ours", "compile", peers.ours),
    _training("ours", "compile", peers.ours),
    _forward("torchscale", "compile", peers.torchscale),
    _training("torchscale", "compile", peers.torchscale),
)
COMPARISONS: Sequence[Comparison] = (
    Comparison(
        peer="torchscale",
        sizes=tuple(peers.SIZES),
        difference=difference,
        tolerance=peers.TOLERANCE,
        lacks=_lacks_torchscale,
    ),
)
