"""Clusters of a teacher's patch features as codes: a target without a tokenizer to train.

Source: ClusterMIM (Du et al., ICLR 2024).
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

import backbones
from backbones import weights
from backbones.errors import InputError, UsageError
from backbones.files import reading
from tasks.pretraining.kmeans import nearest, spherical_kmeans
from tasks.pretraining.recipe import ClusterRecipe
from tasks.pretraining.targets import CodeTarget
from tasks.pretraining.teacher import HEAD, Teacher

KIND = "image_clusters"  # key in the metadata of a file


class ClusterTarget(CodeTarget):
    """The cluster centre that the teacher's feature of a patch is nearest to, by direction.

    Args:
        centres: float32 [codes, teacher's dim].
    """

    def __init__(self, teacher: Teacher, centres: Tensor) -> None:
        super().__init__()
        self.teacher = teacher
        self.register_buffer("centres", F.normalize(centres, dim=1))
        self.outputs = len(centres)

    def view_size(self, grid: int) -> int:
        return self.teacher.view_size(grid)

    def forward(self, pixels: Tensor) -> Tensor:
        features = self.teacher(pixels)
        return nearest(features.flatten(0, 1), self.centres).view(features.shape[:-1])


def fit(teacher: Teacher, features: Tensor, recipe: ClusterRecipe, *, seed: int) -> ClusterTarget:
    """Cluster features [patches, dim] of a teacher.

    Raises:
        UsageError: fewer features than clusters.
    """
    if len(features) < recipe.codes:
        raise UsageError(
            f"{len(features):,} patches cannot make {recipe.codes:,} clusters. Use more images (--set images=…) or "
            "fewer clusters (--set codes=…)."
        )
    directions = F.normalize(features.float(), dim=1)
    generator = torch.Generator().manual_seed(seed)
    centres, _ = spherical_kmeans(directions, recipe.codes, iterations=recipe.iterations, generator=generator)
    return ClusterTarget(teacher, centres)


def save(target: ClusterTarget, path: Path, *, backbone: str) -> None:
    """Write clusters together with the teacher's weights.

    Args:
        backbone: the teacher's name.
    """
    facts = {"backbone": backbone, "grid": target.teacher.grid}
    weights.save(target.state_dict(), path, metadata={KIND: json.dumps(facts)})


def read(path: Path) -> ClusterTarget:
    """Clusters from a file that `save` wrote.

    Raises:
        InputError: no such file, or no clusters.
    """
    found = weights.metadata(path).get(KIND) if path.suffix == ".safetensors" and path.is_file() else None
    if found is None:
        raise InputError(f"{path} has no clusters of features: `harness pretrain` writes them as clusters.safetensors.")
    state = weights.read(path)
    weights.require_finite(path, state)
    with reading(path, "clusters of features", fix="Make the clusters again."):
        facts = json.loads(found)
        grid = facts["grid"]
        backbone = backbones.build(facts["backbone"], image_size=grid * backbones.native_patch(facts["backbone"]))
        teacher = Teacher(backbone, grid=grid, dual_encoder=f"teacher.{HEAD}.weight" in state)
        target = ClusterTarget(teacher, state["centres"])
        missing, unexpected = target.load_state_dict(state, strict=False)
    if missing or unexpected:
        raise InputError(
            f"{path} does not fit {facts['backbone']}: {len(missing)} tensors are missing, {len(unexpected)} unknown. "
            "Make the clusters again."
        )
    return target.eval().requires_grad_(False)
