"""Pretrained weights that ship with the package, and what they have to compute.

Each file is checked by its sha256 before it is used. `multiway_nano.md` is their model card; `checks.safetensors` has
inputs and outputs by which another platform or port can be checked.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Literal

from backbones.errors import InputError

Stage = Literal["masked", "contrastive"]

FOLDER = Path(__file__).parent
CHECKS = FOLDER / "multiway_nano_checks.safetensors"
TOKENIZER = FOLDER / "multiway_nano_tokenizer.safetensors"  # of images, whose codes the masked stage predicts
SHA256 = {
    "multiway_nano.safetensors": "be11a810c17f7cb2e35d80afa0bb406e82d9994f478f01c3ad9681723b6f161a",
    "multiway_nano_contrastive.safetensors": "dc098b888e3691f02fa5307a77851e0b02af1791af494aa35019c53863bbcd35",
    "multiway_nano_tokenizer.safetensors": "2a70fb8eacf463c4b5a9943ce6573e893bf72dc24c595bf75081e8e82dca9e8a",
}
"""By file name."""


def weights(backbone: str, stage: Stage = "masked") -> Path | None:
    """The bundled file of a backbone; None for those without one.

    Args:
        stage: of pretraining, after which the file was saved: "masked" for a single encoder of images, texts and pairs,
            "contrastive" for the two of retrieval, their heads included.

    Raises:
        InputError: the installed file is absent or damaged.
    """
    name = file_name(backbone, stage)
    return _whole(FOLDER / name) if name in SHA256 else None


def file_name(backbone: str, stage: Stage) -> str:
    """Name of a backbone's file after a stage."""
    return f"{backbone}{'' if stage == 'masked' else f'_{stage}'}.safetensors"


@cache
def _whole(path: Path) -> Path:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        found = error.strerror or str(error)
    if found != SHA256[path.name]:
        raise InputError(
            f"The bundled weights {path} are damaged (sha256 {found}, not {SHA256[path.name]}). Install the package "
            "again, or begin with random weights: --weights none."
        )
    return path
