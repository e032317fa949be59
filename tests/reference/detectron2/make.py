"""Compute the reference of `tests/tasks/detection/test_detectron2.py` with detectron2 itself.

    python -m tests.reference.detectron2.make CHECKOUT

CHECKOUT is a clone of detectron2 (02b5c4e was used), which need not be compiled: what it has in C++ is not used here.
It wants fvcore, iopath and omegaconf, and the link that its setup.py makes: detectron2/model_zoo/configs to configs.
Writes beside this file:

    cascade.safetensors    what a small ViTDet with three classes predicts, its losses and some gradients
    keys.json              names and shapes of the weights, of the small model and of the published base and large one;
                           of the small one also learning-rate factor and weight decay of each parameter
"""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

HERE = Path(__file__).parent
SIDE = 128
PROPOSALS = 60
MASKS = 30  # of the best detections
GRADIENTS = (
    "backbone.net.blocks.0.attn.qkv.bias",
    "backbone.net.blocks.1.attn.rel_pos_h",
    "backbone.simfp_2.1.weight",
    "backbone.simfp_4.0.weight",
    "proposal_generator.rpn_head.objectness_logits.weight",
    "proposal_generator.rpn_head.anchor_deltas.weight",
    "roi_heads.box_head.0.conv1.norm.weight",
    "roi_heads.box_head.2.conv1.norm.weight",
    "roi_heads.box_predictor.1.bbox_pred.weight",
    "roi_heads.mask_head.predictor.weight",
)


def random_weights(shapes: dict[str, Iterable[int]]) -> dict[str, Tensor]:
    """The same numbers wherever they are drawn: NumPy's legacy generator never changes."""
    rng = np.random.RandomState(0)
    weights = {}
    for name, shape in sorted(shapes.items()):
        values = rng.standard_normal(tuple(shape))
        if len(tuple(shape)) == 1:
            values = values * 0.1 + ("norm" in name and name.endswith("weight")) + ("simfp_2.1.weight" in name)
        elif "rel_pos" in name or "pos_embed" in name:
            values = values * 0.3
        else:
            values = values * (1 / np.prod(tuple(shape)[1:])) ** 0.5 * (4 if "cls_score" in name else 1)
        weights[name] = torch.from_numpy(values.astype(np.float32))
    return weights


def images() -> list[Tensor]:
    """uint8 [3, height, width] of 128 × 128 and of 128 × 96 pixels."""
    rng = np.random.RandomState(1)
    return [torch.from_numpy(rng.randint(0, 256, (3, SIDE, width)).astype(np.uint8)) for width in (SIDE, 96)]


def truths() -> list[dict[str, Tensor]]:
    """Of each image, boxes [n, 4] as corners, labels [n] and masks bool [n, height, width]; one is of 5 pixels."""
    found = []
    for width, boxes in ((SIDE, [[10, 8, 61, 50], [30, 30, 125, 120], [90, 12, 95, 17]]), (96, [[4, 60, 70, 100]])):
        corners = torch.tensor(boxes, dtype=torch.float32)
        masks = torch.zeros(len(boxes), SIDE, width, dtype=torch.bool)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
            mask[y1:y2, x1:x2] = True
            mask[(y1 + y2) // 2 : y2, x1 : (x1 + x2) // 2] = False
        found.append({"boxes": corners, "labels": torch.arange(len(boxes)) % 3, "masks": masks})
    return found


def main(checkout: str) -> None:
    sys.path.insert(0, checkout)
    sys.modules["detectron2._C"] = types.ModuleType("detectron2._C")
    torch.randperm = lambda count, **options: torch.arange(count, device=options.get("device"))  # nothing by lot
    model = small_model()
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    model.load_state_dict(random_weights(shapes))
    save_file(predictions(model) | training(model), HERE / "cascade.safetensors")
    released = {size: released_keys(size) for size in ("b", "l")}
    keys = {"small": shapes, "small_groups": groups(model), **released}
    (HERE / "keys.json").write_text(json.dumps(keys, indent=0) + "\n")


def small_model() -> nn.Module:
    from detectron2.config import LazyConfig, instantiate

    config = LazyConfig.load(f"{sys.path[0]}/projects/ViTDet/configs/COCO/cascade_mask_rcnn_vitdet_b_100ep.py").model
    net = config.backbone.net
    net.img_size, net.pretrain_img_size, net.embed_dim, net.depth, net.num_heads = SIDE, 64, 32, 4, 2
    net.window_size, net.window_block_indexes, net.drop_path_rate, net.mlp_ratio = 3, [0, 2], 0.0, 2
    config.backbone.out_channels, config.backbone.square_pad = 16, SIDE
    config.proposal_generator.head.in_channels = 16
    config.proposal_generator.post_nms_topk = (PROPOSALS, PROPOSALS)
    config.roi_heads.num_classes = 3
    for head in config.roi_heads.box_heads:
        head.input_shape.channels, head.conv_dims, head.fc_dims = 16, [16] * 4, [64]
    for predictor in config.roi_heads.box_predictors:
        predictor.input_shape.channels = 64
    config.roi_heads.mask_head.input_shape.channels, config.roi_heads.mask_head.conv_dims = 16, [16] * 5
    return instantiate(config)


def predictions(model: nn.Module) -> dict[str, Tensor]:
    """Boxes as corners in pixels of originals of half the size, scores, labels, and masks of the best."""
    inputs = [{"image": image, "height": image.shape[1] // 2, "width": image.shape[2] // 2} for image in images()]
    with torch.no_grad():
        results = model.eval()(inputs)
    tensors = {}
    for index, result in enumerate(results):
        found = result["instances"]
        tensors |= {
            f"{index}.boxes": found.pred_boxes.tensor,
            f"{index}.scores": found.scores,
            f"{index}.labels": found.pred_classes,
            f"{index}.masks": found.pred_masks[:MASKS],
        }
    return tensors


def training(model: nn.Module) -> dict[str, Tensor]:
    from detectron2.structures import BitMasks, Boxes, Instances
    from detectron2.utils.events import EventStorage

    inputs = []
    for image, truth in zip(images(), truths(), strict=True):
        instances = Instances(tuple(image.shape[1:]))
        instances.gt_boxes, instances.gt_classes = Boxes(truth["boxes"]), truth["labels"]
        instances.gt_masks = BitMasks(truth["masks"])
        inputs.append({"image": image, "instances": instances})
    with EventStorage():
        losses = model.train()(inputs)
    sum(losses.values()).backward()
    parameters = dict(model.named_parameters())
    gradients = {f"gradient.{name}": parameters[name].grad for name in GRADIENTS}
    return {f"loss.{name}": value.detach() for name, value in losses.items()} | gradients


def groups(model: nn.Module) -> dict[str, list[float]]:
    """[learning-rate factor, weight decay] of each parameter, with ViTDet-B's settings."""
    from detectron2.modeling.backbone.vit import get_vit_lr_decay_rate
    from detectron2.solver.build import get_default_optimizer_params

    found = get_default_optimizer_params(
        model,
        base_lr=1.0,
        weight_decay=0.1,
        weight_decay_norm=0.0,
        lr_factor_func=partial(get_vit_lr_decay_rate, num_layers=4, lr_decay_rate=0.7),
        overrides={"pos_embed": {"weight_decay": 0.0}},
    )
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(each)]: [group["lr"], group["weight_decay"]] for group in found for each in group["params"]}


def released_keys(size: str) -> dict[str, Any]:
    from detectron2.config import LazyConfig, instantiate

    path = f"{sys.path[0]}/projects/ViTDet/configs/COCO/cascade_mask_rcnn_vitdet_{size}_100ep.py"
    return {name: list(tensor.shape) for name, tensor in instantiate(LazyConfig.load(path).model).state_dict().items()}


if __name__ == "__main__":
    main(sys.argv[1])
