"""Reading and writing weights without ever running code from a file.

Official checkpoints are `{"model": state dict}` pickles under the key names that our modules carry too; they
are read by `backbones.pickles`. Our own files are safetensors. detectron2's (.pkl) are pickles of NumPy arrays, which a
reader of arrays alone opens (arrays.py).
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from backbones import pickles
from backbones.arrays import read_arrays
from backbones.config import CONFIGS
from backbones.errors import InputError
from backbones.files import reading, replacing, require_weights
from backbones.positions import UNUSED_ROWS

TRUNK = "beit3."  # what official checkpoints put before the transformer's own names
# In some released files but not in every model that loads them: the heads of pretraining and the final norm.
OPTIONAL = ("mlm_head.", "mim_head.", TRUNK + "encoder.layer_norm.")


@dataclass(frozen=True)
class LoadReport:
    """Outcome of loading a checkpoint into a model: which tensors were loaded, missing or left over."""

    loaded: int  # tensors
    fresh: tuple[str, ...]  # in the model but not in the file: kept as initialised
    ignored: tuple[str, ...]  # in the file, of no use to this model
    resized: tuple[str, ...]  # interpolated: position tables to another image size, the patch kernel to another patch
    image_size: int | None = None  # pixels of the square images that a Multiway file's positions are for


def sha256(path: str | Path) -> str:
    """Hex digest of a file."""
    require_weights(path)
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def metadata(path: str | Path) -> dict[str, str]:
    """Metadata that `save` wrote beside the tensors."""
    with reading(path, "weights"), safe_open(path, framework="pt") as file:
        return file.metadata() or {}


def read(path: str | Path) -> dict[str, Tensor]:
    """The state dict of a .safetensors file or of a PyTorch pickle, tensors on the CPU.

    Raises:
        InputError: the file is absent, truncated, not a checkpoint, or a pickle that would run code.
    """
    path = Path(path)
    require_weights(path)
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise InputError(f"{path} is not a whole safetensors file ({error}). Copy or download it again.") from error
    with reading(path, "weights"):
        content = read_arrays(path) if path.suffix == ".pkl" else pickles.read(path)
        state = pickles.state_dict(content, path)
    for name, tensor in state.items():
        if not isinstance(name, str) or tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
            raise InputError(
                f"{path}: {name!r:.80} is no plain tensor with a name (sparse, quantized or without values). Save the "
                "state dict of the model as it trains."
            )
    return state


def save(state: dict[str, Tensor], path: str | Path, *, metadata: dict[str, str] | None = None) -> None:
    """Write a state dict as safetensors; the file appears only once it is whole.

    Raises:
        InputError: a tensor is not finite; nothing is written.
    """
    path = Path(path)
    if wrong := [name for name, tensor in state.items() if not is_finite(tensor)]:
        raise InputError(
            f"{len(wrong)} of {len(state)} tensors have a number that is not finite, such as {wrong[0]}, so {path} was "
            "not written: the training diverged. Train with a lower peak (--set lr=…), gradient clipping (--set "
            "clip_grad=1.0) or --set precision=fp32, in another --out folder."
        )
    # No two tensors may share memory in a safetensors file.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    with replacing(path) as partial:
        save_file(tensors, partial, metadata)


def is_finite(tensor: Tensor) -> bool:
    """Check that a tensor has neither NaN nor infinity; the extremes show both, without a copy."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    return all(bool(extreme.isfinite()) for extreme in tensor.aminmax())


def require_finite(path: str | Path, state: dict[str, Tensor]) -> None:
    """Check tensors that were read from a file.

    Raises:
        InputError: one has a number that is not finite; the message names it.
    """
    if name := next((name for name, tensor in state.items() if not is_finite(tensor)), None):
        raise InputError(
            f"{path}: {name} has a number that is not finite: the training that wrote it diverged, or the file is "
            "damaged. Use other weights, or copy them again."
        )


def load(model: nn.Module, path: str | Path, *, new_heads: bool = False) -> LoadReport:
    """Load a checkpoint into a bare backbone, or into a task model that holds one as `beit3`.

    Every tensor of the model must be in the file with its shape, except: frozen parameters (the parts that a
    task never uses, which some released files lack), and with `new_heads` everything outside the backbone
    (fine-tuning starts a head afresh; a head of the right shape is taken over) and the backbone's `fresh_parts`,
    which pretraining does not know. A bare backbone takes no head. Position tables of another size and patch
    kernels of another patch are interpolated. Pretraining heads, and a final norm that the model does without, are
    ignored. A task model may have a method `translated`, which gives a file of other names ours.

    Raises:
        InputError: unreadable file (see `read`), numbers that are not finite, or a mismatch; the message lists
            missing, unexpected and wrongly shaped keys. The model is unchanged then.
    """
    with reading(path, "weights", fix="Use the checkpoint of this backbone and task."):
        return _loaded(model, path, new_heads)


def _loaded(model: nn.Module, path: str | Path, new_heads: bool) -> LoadReport:
    backbone = getattr(model, "beit3", model)
    prefix = TRUNK if backbone is model else ""  # what the model's own names lack
    new_heads = new_heads or backbone is model
    own = {prefix + name: tensor for name, tensor in model.state_dict().items()}
    state = read(path)
    if hasattr(model, "translated"):
        state = model.translated(state)
    state = _under_trunk(state, backbone)
    image_size = _image_size(state)
    resized = _resize(state, own, backbone)
    fresh_parts = tuple(TRUNK + part for part in getattr(backbone, "fresh_parts", ()))

    def is_free(name: str) -> bool:
        return new_heads and (not name.startswith(TRUNK) or name.startswith(fresh_parts))

    wrong = [name for name in state if name in own and state[name].shape != own[name].shape]
    ignored = [name for name in state if name not in own and (is_free(name) or name.startswith(OPTIONAL))]
    ignored = dict.fromkeys([*ignored, *(name for name in wrong if is_free(name))])
    frozen = {prefix + name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    absent = [name for name in own if name not in state or name in ignored]
    fresh = [name for name in absent if name in frozen or is_free(name)]
    problems = {
        "missing": [name for name in absent if name not in fresh],
        "unexpected": [name for name in state if name not in own and name not in ignored],
        "wrongly shaped": [
            f"{name} ({_shape(state[name])} in the file, {_shape(own[name])} in the model)"
            for name in wrong
            if name not in ignored
        ],
    }
    if any(problems.values()):
        raise _mismatch(path, problems, found=_size(state), wanted=_size(own), image_size=image_size)
    wanted = {name: tensor for name, tensor in state.items() if name in own and name not in ignored}
    _require_numbers(path, wanted, own)
    model.load_state_dict({name.removeprefix(prefix): tensor for name, tensor in wanted.items()}, strict=False)
    return LoadReport(len(wanted), tuple(fresh), tuple(ignored), tuple(resized), image_size)


def _require_numbers(path: str | Path, wanted: dict[str, Tensor], own: dict[str, Tensor]) -> None:
    """Refuse tensors of another kind of number than the model's, and numbers that are not finite."""
    for name, tensor in wanted.items():
        if tensor.is_complex() or tensor.is_floating_point() != own[name].is_floating_point():
            raise InputError(
                f"{path}: {name} has numbers of type {tensor.dtype}, and the model's are {own[name].dtype}. Use the "
                "checkpoint of this backbone and task."
            )
    require_finite(path, wanted)


def _under_trunk(state: dict[str, Tensor], backbone: nn.Module) -> dict[str, Tensor]:
    """The tensors of a file under the names of a task model: the backbone's begin with `beit3.`."""
    if any(name.startswith(TRUNK) for name in state):
        return state
    inside = {name: backbone.own_key(name) for name in state}
    return {name if inside[name] is None else TRUNK + inside[name]: tensor for name, tensor in state.items()}


def _image_size(state: dict[str, Tensor]) -> int | None:
    table, kernel = (
        state.get(TRUNK + name) for name in ("encoder.embed_positions.A.weight", "vision_embed.proj.weight")
    )
    if table is None or kernel is None:
        return None
    return math.isqrt(len(table) - UNUSED_ROWS - 1) * kernel.shape[-1]


def _resize(state: dict[str, Tensor], own: dict[str, Tensor], backbone: nn.Module) -> list[str]:
    """Interpolate what has a size of its own in each model; returns the names of what changed."""
    resized = []
    for name in state.keys() & own.keys():
        if state[name].shape == own[name].shape or not name.startswith(TRUNK):
            continue
        fitted = backbone.resized(name.removeprefix(TRUNK), state[name], own[name])
        if fitted is not None:
            state[name] = fitted
            resized.append(name)
    return sorted(resized)


def _shape(tensor: Tensor) -> str:
    return "x".join(str(size) for size in tensor.shape) or "scalar"


def _size(state: dict[str, Tensor]) -> tuple[int, int]:
    """Layers and width of the transformer in a state dict; 0 where it has none of our names."""
    layers = {name.split(".")[3] for name in state if name.startswith(TRUNK + "encoder.layers.")}
    kernel = state.get(TRUNK + "vision_embed.proj.weight")
    return len(layers), 0 if kernel is None else len(kernel)


def _mismatch(
    path: str | Path,
    problems: dict[str, list[str]],
    *,
    found: tuple[int, int],
    wanted: tuple[int, int],
    image_size: int | None,
) -> InputError:
    """The error about a file of another model: how large it is comes first, then the names of its tensors."""
    lines, options = [f"The weights in {path} do not fit this model."], ()
    advice = "Use the checkpoint of this backbone and task, or name the backbone that the file belongs to."
    if all(found) and all(wanted) and found != wanted:
        lines = [
            f"{Path(path).name} has {found[0]} layers of width {found[1]}, not {wanted[0]} of {wanted[1]}.",
            f"The weights in {path} do not fit this model.",
        ]
        fitting = [name for name, config in CONFIGS.items() if (config.layers, config.dim) == found]
        if fitting:
            name = next((name for name in fitting if CONFIGS[name].image_size == image_size), fitting[0])
            options = ("--backbone", name)
            advice = f"Use {' '.join(options)}."
            lines.insert(1, advice)
    for title, names in problems.items():
        if names:
            more = f" and {len(names) - 8} more" if len(names) > 8 else ""
            lines.append(f"{title.capitalize()} ({len(names)}): {', '.join(names[:8])}{more}.")
    if advice not in lines:
        lines.append(advice)
    return InputError(" ".join(lines), options=options)
