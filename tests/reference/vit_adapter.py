"""Reference tensors of the official ViT-Adapter: `python -m tests.reference.vit_adapter CLONE` writes vit_adapter.*.

CLONE is a clone of https://github.com/czczup/ViT-Adapter. Its BEiT backbone with adapter is run on a CPU at a small
size. Every weight is a function of its name (`drawn`), so that names and shapes are all that is kept of them. What the
code imports and does not need here (mmseg's registry, mmcv's checkpoints, its compiled operator) is stood in for.
"""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import torch
from safetensors.torch import save_file

HERE = Path(__file__).parent
SIZE = {"image": 64, "dim": 64, "depth": 4, "heads": 2}


def drawn(name: str, shape: Sequence[int]) -> torch.Tensor:
    """The weight of a name: float32, small where it is added or multiplied many times, positive for variances."""
    values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(tuple(shape)).astype(np.float32)
    if name.endswith("running_var"):
        return torch.from_numpy(0.5 + np.abs(values))
    is_norm = len(shape) == 1 and name.endswith("weight")
    return torch.from_numpy(1 + 0.1 * values if is_norm else values * (0.5 if len(shape) == 1 else shape[0] ** -0.5))


def image() -> torch.Tensor:
    return drawn("image", (2, 3, SIZE["image"], SIZE["image"])) * 3


def main(clone: Path) -> None:
    official = _official(clone)
    stages = [[index, index] for index in range(SIZE["depth"])]
    model = official.BEiTAdapter(
        img_size=SIZE["image"], patch_size=16, embed_dim=SIZE["dim"], depth=SIZE["depth"], num_heads=SIZE["heads"],
        deform_num_heads=SIZE["heads"], mlp_ratio=4, qkv_bias=True, use_abs_pos_emb=False, use_rel_pos_bias=True,
        init_values=1e-6, drop_path_rate=0.3, conv_inplane=64, n_points=4, cffn_ratio=0.25, deform_ratio=0.5,
        interaction_indexes=stages,
    ).eval()  # fmt: skip
    state = {
        name: drawn(name, tensor.shape) if tensor.is_floating_point() else tensor
        for name, tensor in model.state_dict().items()
    }
    model.load_state_dict(state)
    with torch.no_grad():
        maps = model(image())
    save_file(
        {f"map{number}": features.contiguous() for number, features in enumerate(maps)},
        HERE / "vit_adapter.safetensors",
    )
    shapes = {f"backbone.{name}": list(tensor.shape) for name, tensor in state.items()}
    (HERE / "vit_adapter.json").write_text(json.dumps(shapes, indent=0))


def _official(clone: Path) -> ModuleType:
    """The module that defines BEiTAdapter."""

    def register(*_: object, **__: object) -> object:
        return lambda given: given

    stand_ins = {
        "mmseg": {}, "mmseg.models": {}, "mmseg.utils": {"get_root_logger": lambda: None}, "mmcv": {},
        "mmseg.models.builder": {"BACKBONES": SimpleNamespace(register_module=register)},
        "mmcv_custom": {"load_checkpoint": None}, "MultiScaleDeformableAttention": {},
    }  # fmt: skip
    for name, content in stand_ins.items():
        module = sys.modules[name] = ModuleType(name)
        vars(module).update(content)
    for name, folder in (("official", "segmentation/mmseg_custom/models/backbones"), ("ops", "detection/ops")):
        package = sys.modules[name] = ModuleType(name)
        package.__path__ = [str(clone / folder)]
    base = sys.modules["official.base"] = ModuleType("official.base")
    base.__path__ = [str(clone / "segmentation/mmseg_custom/models/backbones/base")]

    from ops.functions import ms_deform_attn_func
    from ops.modules import ms_deform_attn

    def apply(value: torch.Tensor, shapes: torch.Tensor, _: object, *others: torch.Tensor) -> torch.Tensor:
        return ms_deform_attn_func.ms_deform_attn_core_pytorch(value, shapes, *others[:2])

    ms_deform_attn.MSDeformAttnFunction = SimpleNamespace(apply=apply)
    from official import beit_adapter

    return beit_adapter


if __name__ == "__main__":
    main(Path(sys.argv[1]))
