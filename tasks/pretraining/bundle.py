"""Make the files that ship with the package from the results of the nano stages.

    python -m tasks.pretraining.bundle runs/pretraining

Weights are stored in float16, with the outputs of the stored weights for a few random inputs beside them. The printed
sha256 go into `backbones/bundled.py`.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import torch
from torch import Tensor

import backbones
from backbones import bundled, weights
from tasks.pretraining import recipes

BACKBONE = "multiway_nano"
STAGES: tuple[bundled.Stage, ...] = ("masked", "contrastive")
FINAL = "checkpoints/final.safetensors"
TOKENIZER = "tokenizer.safetensors"
IMAGES, TOKENS, PADDED = 2, 12, 4  # of the inputs of the checks; the second text has padding


def inputs() -> dict[str, Tensor]:
    """Random inputs of a pair of images and texts: `image` float32, `text` int64, `text_padding` bool."""
    config = backbones.config(BACKBONE)
    rng = torch.Generator().manual_seed(0)
    padding = torch.zeros(IMAGES, TOKENS, dtype=torch.bool)
    padding[-1, -PADDED:] = True
    return {
        "image": torch.rand(IMAGES, 3, config.image_size, config.image_size, generator=rng) * 2 - 1,
        "text": torch.randint(4, config.vocab_size, (IMAGES, TOKENS), generator=rng).masked_fill(padding, 1),
        "text_padding": padding,
    }


def outputs(path: Path, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tokens of images, texts and pairs, float32 [2, tokens, width], by a backbone with the weights in a file."""
    model = backbones.build(BACKBONE, weights=path).eval()
    image, text = {"image": given["image"]}, {name: given[name] for name in ("text", "text_padding")}
    with torch.inference_mode():
        encoded = {"image": model(**image), "text": model(**text), "pair": model(**image, **text)}
    return {f"{kind}_tokens": value.tokens.float() for kind, value in encoded.items()}


def write(root: Path, folder: Path = bundled.FOLDER) -> list[Path]:
    """Write the weights of each stage and the checks into a folder; returns the paths.

    Args:
        root: the --out of `harness pretrain`.
    """
    made, given = [], inputs()
    checks = dict(given)
    for stage in STAGES:
        source = root / recipes.stage("nano_masked", stage) / FINAL
        path = folder / bundled.file_name(BACKBONE, stage)
        state = {name: _half(tensor) for name, tensor in weights.read(source).items()}
        weights.save(state, path)
        checks |= {f"{stage}.{name}": tensor for name, tensor in outputs(path, given).items()}
        made.append(path)
    weights.save(checks, folder / bundled.CHECKS.name)
    shutil.copyfile(root / recipes.stage("nano_masked", "tokenizer") / TOKENIZER, folder / bundled.TOKENIZER.name)
    return [*made, folder / bundled.CHECKS.name, folder / bundled.TOKENIZER.name]


def _half(tensor: Tensor) -> Tensor:
    return tensor.half() if tensor.is_floating_point() else tensor


if __name__ == "__main__":
    for path in write(Path(sys.argv[1])):
        print(f'    "{path.name}": "{weights.sha256(path)}",  # {path.stat().st_size:,} bytes')
