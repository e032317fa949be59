"""Cost of dense tasks on a GPU: deformable attention, a detector's backbone, and whole training steps.

- Deformable attention at the sizes of Mask2Former's pixel decoder at 896 px, fp32, against one `grid_sample` a level.
- The backbone in windows at 1,024 px, ViTDet's layout, against attention that makes its scores.
- A detector's training step: Cascade Mask R-CNN, the recipe `base`, made-up objects with masks.
- A segmenter's: Mask2Former with a ViT-Adapter, the recipe `large`, made-up maps of classes.

Detectors and segmenters need MMDetection and MMSegmentation; where they are absent their lines say so. The images of a
training step lie on the GPU, and no loader runs. Its FLOPs are not counted.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import backbones
from backbones import MultiwayConfig
from backbones.operators.deformable_attention import Shapes, deformable_attention
from backbones.windowed import WindowedMultiway
from tasks.detection.recipes import RECIPES as DETECTION
from tasks.recipe import Recipe
from tasks.segmentation.recipes import RECIPES as SEGMENTATION
from tests.benchmarks import deformable, gpu_images, peers, windows
from tests.benchmarks.deformable import Attend, Inputs
from tests.benchmarks.gpu_measuring import Comparison, Machine, Measurement, Work, training_step
from tests.benchmarks.peers import Peer

if TYPE_CHECKING:
    from mmdet.structures import DetDataSample
    from mmengine.model import BaseModel
    from mmseg.structures import SegDataSample

    from tasks.adapter import TaskAdapter

PIXELS = {"base": 1024, "large": 1024, "nano": 128}  # of the backbone in windows
QUERIES = {"large": {"pixels": 896, "heads": 32, "dim": 32}, "nano": {"pixels": 64, "heads": 2, "dim": 4}}
OBJECTS, COCO_CLASSES = 12, 80  # of an image; COCO's have seven on average
CELLS, ADE20K_CLASSES = 4, 150  # along a side of a made-up map, each of one class


# Deformable attention


def by_grid_sample(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """`deformable_attention` as a loop over the levels that samples and then sums."""
    batch, queries = locations.shape[:2]
    sampled = []
    parts = value.split([height * width for height, width in shapes], dim=1)
    for level, (part, shape) in enumerate(zip(parts, shapes, strict=True)):
        maps = part.permute(0, 2, 3, 1).flatten(0, 1).unflatten(2, shape)
        places = locations[:, :, :, level].transpose(1, 2).flatten(0, 1)
        sampled.append(F.grid_sample(maps, 2 * places - 1, align_corners=False))
    shares = weights.transpose(1, 2).flatten(0, 1).flatten(2)[:, None]
    mixed = (torch.cat(sampled, dim=-1) * shares).sum(-1)
    return mixed.view(batch, -1, queries).transpose(1, 2)


def inputs(machine: Machine, size: str) -> Inputs:
    made = Inputs(**QUERIES[size], points=4, where=machine.device)
    made.shapes = made.shapes.tolist()  # known beforehand, as no form needs to wait for the GPU to learn them
    return made


def attending(machine: Machine, size: str, batch: int, *, attend: Attend, backward: bool) -> Work:
    """One image's attention, or the gradients by all its inputs."""
    data = inputs(machine, size)
    if backward:
        out = data.forward(attend)
        return Work(step=partial(data.backward, out), flops=None, images=batch)
    return Work(step=torch.no_grad()(partial(data.forward, attend)), flops=None, images=batch)


def attention_difference(machine: Machine, size: str) -> float:
    return deformable.difference(inputs(machine, size), [deformable_attention, by_grid_sample])


def _attention(work: str, model: str, attend: Attend) -> Measurement:
    prepare = partial(attending, attend=attend, backward=work == "backward")
    batches = dict.fromkeys(QUERIES, 1)
    return Measurement(work=f"deformable {work}", model=model, variant="eager", prepare=prepare, batches=batches)


# A detector's backbone


def windowed(config: MultiwayConfig) -> Peer:
    return Peer(name="ours", model=WindowedMultiway(config), encode=_last_map)


def naive(config: MultiwayConfig) -> Peer:
    def encode(model: WindowedMultiway, image: Tensor) -> Tensor:
        with windows.naive():
            return _last_map(model, image)

    return Peer(name="naive", model=WindowedMultiway(config), encode=encode)


def _last_map(model: WindowedMultiway, image: Tensor) -> Tensor:
    return model.maps(image, [model.num_layers - 1])[0].flatten(2).transpose(1, 2)


def windowed_difference(machine: Machine, size: str) -> float:
    with machine.device:
        model = windows.build(size, PIXELS[size])
    with torch.inference_mode():
        return windows.difference(model, peers.random_images(model.config, 1, device=machine.device))


def _backbone(of: Callable[..., Work], model: str, make: gpu_images.Make, batches: Mapping[str, int]) -> Measurement:
    def prepare(machine: Machine, size: str, batch: int) -> Work:
        return of(machine, windows.configuration(size, PIXELS[size]), batch, make=make)

    return Measurement(
        work=f"windows {of.__name__}", model=model, variant="eager", prepare=prepare, batches=batches, burst=1
    )


# Training steps


def detecting(machine: Machine, size: str, batch: int) -> Work:
    from tasks.detection.coco_detection import CocoDetection
    from tasks.detection.model import Detector

    recipe = DETECTION[size]
    if machine.tiny:
        recipe = dataclasses.replace(recipe, image_size=64, roi_batch=16)
    backbone = _built(machine, size, recipe, CocoDetection())
    model = Detector(backbone, classes=range(1, COCO_CLASSES + 1), recipe=recipe)
    return _step(machine, model, [scene(recipe.image_size, seed) for seed in range(batch)])


def segmenting(machine: Machine, size: str, batch: int) -> Work:
    from tasks.segmentation.ade20k import ADE20K
    from tasks.segmentation.model import Segmenter

    recipe = SEGMENTATION[size]
    if machine.tiny:
        recipe = dataclasses.replace(recipe, head="mask2former", image_size=64, stride=64, checkpoint_activations=True)
    backbone = _built(machine, size, recipe, ADE20K())
    model = Segmenter(backbone, classes=ADE20K_CLASSES, recipe=recipe)
    return _step(machine, model, [label_map(recipe.image_size, seed) for seed in range(batch)])


def _built(machine: Machine, size: str, recipe: Recipe, task: TaskAdapter) -> torch.nn.Module:
    name = peers.SIZES[size]
    torch.manual_seed(0)
    with machine.device:
        return backbones.build(
            name,
            image_size=recipe.image_size,
            drop_path=recipe.drop_path,
            checkpoint_activations=recipe.checkpoint_activations,
            **task.backbone_options(recipe, layers=backbones.config(name).layers),
        )


def _step(machine: Machine, model: BaseModel, made: Sequence[tuple[Tensor, Any]]) -> Work:
    images, samples = zip(*made, strict=True)
    model = model.to(machine.device).train()
    data = model.data_preprocessor({"inputs": list(images), "data_samples": list(samples)}, True)

    def loss() -> Tensor:
        return model.parse_losses(model(**data, mode="loss"))[0]

    return Work(step=training_step(machine, model, loss), flops=None, images=len(images))


def scene(side: int, seed: int) -> tuple[Tensor, DetDataSample]:
    """Noise with objects: ellipses of an eighth to a half of the side."""
    from backbones.operators import provide

    provide()  # what mmcv-lite lacks, before MMDetection is imported
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    rng = np.random.default_rng(seed)
    radius = side * rng.uniform(1 / 16, 1 / 4, (OBJECTS, 2))
    centre = rng.uniform(radius, side - radius)
    places = np.arange(side) + 0.5
    x, y = (((places - centre[:, [axis]]) / radius[:, [axis]]) ** 2 for axis in (0, 1))
    masks = (y[:, :, None] + x[:, None, :] <= 1).astype(np.uint8)
    sample = DetDataSample(
        metainfo={"img_shape": (side, side), "ori_shape": (side, side), "scale_factor": (1.0, 1.0)},
        gt_instances=InstanceData(
            bboxes=torch.from_numpy(np.hstack([centre - radius, centre + radius])).float(),
            labels=torch.from_numpy(rng.integers(0, COCO_CLASSES, OBJECTS)),
            masks=BitmapMasks(masks, side, side),
        ),
    )
    return _noise(side, rng), sample


def label_map(side: int, seed: int) -> tuple[Tensor, SegDataSample]:
    """Noise with a map of square cells."""
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    rng = np.random.default_rng(seed)
    cells = rng.integers(0, ADE20K_CLASSES, (CELLS, CELLS))
    labels = cells.repeat(side // CELLS, axis=0).repeat(side // CELLS, axis=1)
    sample = SegDataSample(
        metainfo={"img_shape": (side, side), "ori_shape": (side, side)},
        gt_sem_seg=PixelData(data=torch.from_numpy(labels)[None]),
    )
    return _noise(side, rng), sample


def _noise(side: int, rng: np.random.Generator) -> Tensor:
    return torch.from_numpy(rng.integers(0, 256, (3, side, side), np.uint8))


def lacks(package: str) -> str:
    """Package that has to be installed before a model of it can be measured, or ""."""
    absent = [name for name in ("mmengine", "mmcv", package) if importlib.util.find_spec(name) is None]
    return f"{', '.join(absent)} absent: they come with this project (pip install .)" if absent else ""


def _training(
    work: str, variant: str, package: str, prepare: Callable[..., Work], batches: Mapping[str, int]
) -> Measurement:
    return Measurement(
        work=work, model="ours", variant=variant, prepare=prepare, batches=batches, burst=1,
        lacks=partial(lacks, package),
    )  # fmt: skip


FORWARD = {"base": 16, "large": 8, "nano": 1}
TRAINING = {"base": 4, "large": 2, "nano": 1}

MEASUREMENTS: Sequence[Measurement] = (
    _training("detection step", "eager", "mmdet", detecting, {"base": 2, "nano": 1}),
    _training("segmentation step", "checkpointing", "mmseg", segmenting, {"large": 1, "nano": 1}),
    *[
        _attention(work, model, attend)
        for work in ("forward", "backward")
        for model, attend in (("ours", deformable_attention), ("grid_sample", by_grid_sample))
    ],
    *[
        _backbone(of, model, make, batches)
        for of, batches in ((gpu_images.forward, FORWARD), (gpu_images.training, TRAINING))
        for model, make in (("ours", windowed), ("naive", naive))
    ],
)
COMPARISONS: Sequence[Comparison] = (
    Comparison(
        peer="grid_sample", sizes=tuple(QUERIES), difference=attention_difference, tolerance=deformable.TOLERANCE
    ),
    Comparison(peer="naive", sizes=tuple(PIXELS), difference=windowed_difference, tolerance=windows.TOLERANCE),
)
