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
    "multiway_nano.safetensors": "21cede3757cf95648d6d797a270852e4564014515fdaa6bea5f258117c307ad0",
    "multiway_nano_contrastive.safetensors": "f4aa5826aa58b0ea4085c4a7b2bc717e388ffa866afe9513bd1011e0dee6f13b",
    "multiway_nano_tokenizer.safetensors": "e8875cd7ea8bd0b0d2ec821218ae6256000a3dae12f106367a1310971a81cb66",
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
