"""Model and items that a stage trains by its recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from mmengine.model import BaseModel
from torch.utils.data import Dataset

import backbones
from backbones import weights
from backbones.errors import UsageError
from backbones.tokenizer import Tokenizer
from tasks import registry
from tasks.adapter import TaskContext
from tasks.common.packing import Packed
from tasks.common.text import TextField
from tasks.pretraining import beit2, clusters, sources, tokenizer
from tasks.pretraining.dataset import Contrasted, Images, Mixed, Pairs, Texts
from tasks.pretraining.distillation import Distillation
from tasks.pretraining.model import MaskedDataModel
from tasks.pretraining.recipe import (
    ContrastiveRecipe,
    DistillationRecipe,
    MaskedDataRecipe,
    PretrainingRecipe,
)
from tasks.pretraining.targets import ImageTarget, PixelTarget
from tasks.pretraining.teacher import Teacher, read_teacher
from tasks.pretraining.tokenizer import TokenizerTarget
from tasks.pretraining.views import Views

T = TypeVar("T")
CONTRASTIVE_TASK = "coco_retrieval"  # whose model is tuned


@dataclass(frozen=True, kw_only=True)
class Data:
    """Data read for a recipe; None of the kinds that it does not train on."""

    images: Packed | None = None
    texts: np.ndarray | None = None
    pairs: Packed | None = None


def read(
    recipe: PretrainingRecipe,
    found: sources.Sources,
    words: Tokenizer | None,
    *,
    once: Callable[[Callable[[], Packed]], Packed] = lambda reading: reading(),
) -> Data:
    """Read the data of a recipe.

    Args:
        words: the tokenizer of texts.
        once: calls what reads samples, such as once for all processes of a node.

    Raises:
        InputError: data that are absent, empty or damaged.
    """
    data = Data()
    if "images" in recipe.kinds:
        folder = found.require("images")
        data = replace(data, images=once(lambda: sources.read_images(folder)))
    if "texts" in recipe.kinds:
        data = replace(data, texts=sources.read_texts(found.require("texts"), words, length=recipe.text_length))
    if "pairs" in recipe.kinds:
        place, pattern = found.require("pairs"), recipe.pair_files
        data = replace(data, pairs=once(lambda: sources.read_pairs(place, pattern=pattern)))
    return data


def contrastive(recipe: ContrastiveRecipe, backbone: str, data: Data, words: Tokenizer) -> tuple[BaseModel, Contrasted]:
    """A dual encoder and its pairs."""
    context = TaskContext(root=Path(), recipe=recipe, tokenizer=words, labels=None)
    model = registry.get(CONTRASTIVE_TASK).model(_built(recipe, backbone), context)
    views = Views(
        sides=(recipe.image_size,), smallest_crop=recipe.smallest_crop, color_jitter=recipe.color_jitter
    )  # flips would make "left" wrong
    return model, Contrasted(data.pairs, views, TextField(tokenizer=words, length=recipe.max_tokens))


def distillation(
    recipe: DistillationRecipe, backbone: str, data: Data, teacher: Teacher
) -> tuple[Distillation, Dataset]:
    """A tokenizer with its decoder, and images."""
    grid = recipe.image_size // backbones.native_patch(backbone)
    views = Views(
        sides=_sides(recipe.image_size, teacher.view_size(grid)), smallest_crop=recipe.smallest_crop, flip=recipe.flip
    )
    return Distillation(recipe, backbone, teacher), Images(data.images, views)


def masked(
    recipe: MaskedDataRecipe, backbone: str, data: Data, words: Tokenizer, target: ImageTarget
) -> tuple[MaskedDataModel, Mixed]:
    """A masked data model, and an item of each kind of data."""
    built = _built(recipe, backbone)
    views = Views(
        sides=_sides(recipe.image_size, target.view_size(built.config.grid)),
        smallest_crop=recipe.smallest_crop, color_jitter=recipe.color_jitter, flip=recipe.flip,
    )  # fmt: skip
    patch = built.patch_size
    kinds: dict[str, Dataset] = {}
    if data.images is not None:
        kinds["images"] = Images(data.images, views, recipe.image_masking(patch))
    if data.texts is not None:
        kinds["texts"] = Texts(data.texts, recipe.text_masking(), mask=words.mask)
    if data.pairs is not None:
        text = TextField(tokenizer=words, length=recipe.max_tokens)
        kinds["pairs"] = Pairs(data.pairs, replace(views, flip=False), text, recipe.pair_masks(patch))
    return MaskedDataModel(built, target), Mixed(kinds)


def teacher_of(recipe: PretrainingRecipe, backbone: str, name: str, path: Path) -> Teacher:
    """The teacher `name` with the weights in `path`, for images of a recipe that trains `backbone`."""
    return read_teacher(name, path, grid=recipe.image_size // backbones.native_patch(backbone))


def image_target(recipe: MaskedDataRecipe, backbone: str, path: Path | None) -> ImageTarget:
    """Target that masked patches are predicted as.

    Args:
        path: tokenizer.safetensors, clusters.safetensors, or a BEiT v2 checkpoint; None for pixels.

    Raises:
        InputError: a file that is none of these.
        UsageError: a target whose grid of patches is not the backbone's.
    """
    patch = backbones.native_patch(backbone)
    if recipe.image_target == "pixels" or recipe.image_reconstruction == "none":
        return PixelTarget(patch)
    if recipe.image_target == "kmeans":
        return clusters.read(path)
    is_beit2 = path.suffix != ".safetensors" and beit2.is_checkpoint(weights.read(path))
    found = TokenizerTarget(beit2.read(path) if is_beit2 else tokenizer.read(path))
    own = found.tokenizer.beit3.config.grid
    if own * patch != recipe.image_size:
        raise UsageError(
            f"The tokenizer {path} is for {own} × {own} patches, and the recipe has images of {recipe.image_size} "
            f"pixels in patches of {patch}. Give one that was trained on as many patches, or --set image_size="
            f"{own * patch}."
        )
    return found


def features(teacher: Teacher, images: Packed, recipe: PretrainingRecipe, *, count: int) -> torch.Tensor:
    """A teacher's features of the patches of `count` images, evenly spaced: [patches, dim]."""
    views = Views(sides=(teacher.view_size(teacher.grid),))
    chosen = images.chosen(np.linspace(0, len(images) - 1, min(count, len(images))).astype(np.int64))
    items = torch.utils.data.DataLoader(Images(chosen, views), batch_size=recipe.micro_batch)
    with torch.inference_mode():
        return torch.cat([teacher(batch["pixels"]).flatten(0, 1) for batch in items])


def _built(recipe: PretrainingRecipe, backbone: str) -> torch.nn.Module:
    return backbones.build(
        backbone, image_size=recipe.image_size, drop_path=recipe.drop_path,
        checkpoint_activations=recipe.checkpoint_activations, **recipe.backbone_options(),
    )  # fmt: skip


def _sides(image: int, view: int) -> tuple[int, ...]:
    return (image,) if image == view else (image, view)
