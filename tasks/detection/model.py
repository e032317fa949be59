"""Cascade Mask R-CNN on a plain backbone: boxes, and masks inside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.utils import apply_to
from torch import Tensor, nn

from backbones import openmmlab  # registers the pyramid and what mmcv-lite lacks; before MMDetection is imported
from backbones.config import COARSEST_STRIDE
from tasks.common.images import pixel_statistics
from tasks.detection import detectron2_weights
from tasks.detection.cascade import MASK_SIDE, cascade_mask_rcnn
from tasks.detection.mask_pasting import maskness, run_lengths

if TYPE_CHECKING:
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    from tasks.detection.recipes import DetectionRecipe

MASKS_AT_ONCE = 256  # the mask head's maps of so many regions: 210 MB a layer with 256 channels


class Detector(BaseModel):
    """Backbone, and an MMDetection detector that takes the backbone's last map.

    Args:
        classes: category ids in the order of the outputs.
    """

    def __init__(self, backbone: nn.Module, *, classes: Sequence[int], recipe: DetectionRecipe) -> None:
        super().__init__(_preprocessor(**pixel_statistics(backbone, recipe)))
        self.beit3 = backbone
        self._last = backbone.map_layers - 1
        config = cascade_mask_rcnn(backbone.dim, classes=len(classes), recipe=recipe)
        self.net = openmmlab.build(config, package="mmdet")  # its `backbone` is the pyramid on our backbone's map
        for module in (self.net.backbone, self.net.rpn_head, *self.net.roi_head.bbox_head):
            module.register_forward_hook(_in_float32)
        self.classes = np.asarray(classes, np.int32)
        self.recipe = recipe
        backbone.freeze_unused_by_images()

    def forward(
        self,
        inputs: Tensor | list[Tensor],
        data_samples: list[DetDataSample] | list[list[DetDataSample]],
        mode: str = "predict",
    ) -> dict[str, Tensor] | list[dict[str, Any]]:
        """inputs: float [batch, 3, height, width], normalised RGB, padded below and to the right.

        To predict, inputs and data samples are those of each view.
        """
        if mode == "loss":
            if self.recipe.style == "detectron2":  # its RPN learns that the padding is background
                for sample in data_samples:
                    sample.set_metainfo({"pad_shape": (self.recipe.image_size, self.recipe.image_size)})
            return self.net.loss(self._maps(_square(inputs, self.recipe.image_size)), data_samples)
        views = [
            (self._maps(_square(images, _side(samples))), [sample.metainfo for sample in samples])
            for images, samples in zip(inputs, data_samples, strict=True)
        ]
        # As in detectron2: half precision in the transformer at most. Boxes and scores rounded to bfloat16 cost AP.
        with torch.autocast(views[0][0][0].device.type, enabled=False):
            looks = [self._look([each.float() for each in maps], metas) for maps, metas in views]
            return [self._record(looks, index) for index in range(len(data_samples[0]))]

    def translated(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """A state dict under our names: one of detectron2's ViTDet is renamed, others stay as they are."""
        if not detectron2_weights.is_detectron2(state):
            return state
        return detectron2_weights.translated(state, grid=self.beit3.config.grid)

    def _maps(self, images: Tensor) -> tuple[Tensor, ...]:
        """The backbone's last map, [batch, dim, side / patch, side / patch], of images [batch, 3, side, side]."""
        return self.beit3.maps(images, [self._last])

    def _look(self, maps: Sequence[Tensor], metas: list[dict[str, Any]]) -> _View:
        """Detections in one view of each image before suppression, in pixels of the original images."""
        maps = self.net.extract_feat(maps)
        rpn, roi = self.net.rpn_head, self.net.roi_head
        proposals = rpn.predict_by_feat(*rpn(maps), batch_img_metas=metas, rescale=False)
        found = roi.predict_bbox(maps, metas, proposals, rcnn_test_cfg=None, rescale=True)
        for instances, meta in zip(found, metas, strict=True):
            if meta.get("flip"):
                instances.bboxes = _mirrored(instances.bboxes, meta["ori_shape"][1])
        return _View(maps, metas, found)

    def _record(self, looks: Sequence[_View], index: int) -> dict[str, Any]:
        """The detections of one image of the batch."""
        boxes, scores, labels = self._suppressed([look.found[index] for look in looks])
        masks = None
        if self.recipe.masks:
            masks = self._mask_probabilities(looks, index, boxes, labels)
            if self.recipe.maskness:
                scores, order = (scores * maskness(masks)).sort(descending=True, stable=True)
                boxes, labels, masks = boxes[order], labels[order], masks[order]
        record = {
            "boxes": _corners_to_extents(boxes).cpu().numpy(),
            "scores": scores.cpu().numpy(),
            "labels": self.classes[labels.cpu().numpy()],
        }
        if masks is not None:
            record["masks"] = run_lengths(masks, boxes, looks[0].metas[index]["ori_shape"])
        return record

    def _suppressed(self, found: Sequence[InstanceData]) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes [n, 4] as corners, scores [n] and class indices [n] of all views together, the best first."""
        from mmdet.models.layers import multiclass_nms

        recipe = self.recipe
        suppression: dict[str, Any] = {"type": "nms", "iou_threshold": recipe.nms_iou}
        if recipe.soft_nms:
            # Always class by class, as it looks at all boxes that are left for each that it picks; mmcv would do so
            # from 10,000 boxes on.
            suppression |= {"type": "soft_nms", "method": "linear", "min_score": recipe.soft_nms_floor, "split_thr": 1}
        boxes, labels = multiclass_nms(
            torch.cat([instances.bboxes for instances in found]).float(),
            torch.cat([instances.scores for instances in found]).float(),
            recipe.score_threshold,
            suppression,
            recipe.detections if recipe.detections_per == "image" else -1,
        )
        if recipe.soft_nms:  # class by class, the best of each would stay whatever its score
            kept = boxes[:, 4] >= recipe.soft_nms_floor
            boxes, labels = boxes[kept], labels[kept]
        if recipe.detections_per == "category":
            kept = _first_of_each(labels, recipe.detections, classes=len(self.classes))
            boxes, labels = boxes[kept], labels[kept]
        return boxes[:, :4], boxes[:, 4], labels

    def _mask_probabilities(self, looks: Sequence[_View], index: int, boxes: Tensor, labels: Tensor) -> Tensor:
        """Means over the mask heads and the views: float [n, side, side], of the pixels in each box."""
        roi = self.net.roi_head
        total = boxes.new_zeros(len(boxes), MASK_SIDE, MASK_SIDE)
        for look in looks:
            meta = look.metas[index]
            flipped = bool(meta.get("flip"))
            seen = _mirrored(boxes, meta["ori_shape"][1]) if flipped else boxes
            seen = seen * seen.new_tensor(meta["scale_factor"]).repeat(2)
            regions = torch.cat([seen.new_full((len(seen), 1), index), seen], dim=1)  # [n, 5]
            for extractor, head in zip(roi.mask_roi_extractor, roi.mask_head, strict=True):
                for some in torch.arange(len(boxes), device=boxes.device).split(MASKS_AT_ONCE):
                    features = extractor(look.maps[: extractor.num_inputs], regions[some])
                    masks = head(features)  # [n, classes, side, side]
                    own = masks[torch.arange(len(some), device=some.device), labels[some]].sigmoid()
                    total[some] += own.flip(-1) if flipped else own
        return total / (len(looks) * len(roi.mask_head))


class _View(NamedTuple):
    """One view of a batch: the pyramid's maps, each image's geometry, and what was found in it."""

    maps: tuple[Tensor, ...]
    metas: list[dict[str, Any]]
    found: list[InstanceData]


def _preprocessor(*, mean: Sequence[float], std: Sequence[float]) -> nn.Module:
    from mmdet.models.data_preprocessors import DetDataPreprocessor

    class Preprocessor(DetDataPreprocessor):
        """Normalises and pads; images to predict come in one view, or in several as lists of batches."""

        def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
            if training:
                return super().forward(data, training)
            views = [data]
            if not isinstance(data["inputs"][0], Tensor):
                pairs = zip(data["inputs"], data["data_samples"], strict=True)
                views = [{"inputs": inputs, "data_samples": samples} for inputs, samples in pairs]
            done = [super(Preprocessor, self).forward(view) for view in views]
            return {name: [view[name] for view in done] for name in done[0]}

    return Preprocessor(mean=mean, std=std, pad_size_divisor=COARSEST_STRIDE)


def _in_float32(module: nn.Module, inputs: Any, outputs: Any) -> Any:
    """A forward hook: MMDetection computes boxes in the type of the maps and of the heads' outputs.

    Under autocast that would be bfloat16, which has every fourth number only from 512 on: anchors, regions and boxes
    would be on a grid of some pixels.
    """
    return apply_to(outputs, torch.is_tensor, Tensor.float)


def _square(images: Tensor, side: int) -> Tensor:
    """[…, height, width] padded or cut below and to the right to [..., side, side]."""
    return F.pad(images, (0, side - images.shape[-1], 0, side - images.shape[-2]))


def _side(samples: Sequence[DetDataSample]) -> int:
    """The side of the squares that a batch's images are padded to: a multiple of the coarsest stride.

    Positions are those of a square with the image in its upper left corner, as in training, whatever its shape.
    """
    longest = max(max(sample.metainfo["img_shape"]) for sample in samples)
    return -(-longest // COARSEST_STRIDE) * COARSEST_STRIDE  # cut down to patches, an edge would be lost


def _first_of_each(labels: Tensor, most: int, *, classes: int) -> Tensor:
    """Rising indices of the first `most` detections of each label, labels being [n]."""
    so_far = F.one_hot(labels, classes).cumsum(0)  # [n, classes]
    return (so_far.gather(1, labels[:, None])[:, 0] <= most).nonzero()[:, 0]


def _mirrored(boxes: Tensor, width: int) -> Tensor:
    """Corners [n, 4] in the mirrored image."""
    x1, y1, x2, y2 = boxes.unbind(1)
    return torch.stack([width - x2, y1, width - x1, y2], dim=1)


def _corners_to_extents(boxes: Tensor) -> Tensor:
    """x1, y1, x2, y2 -> x, y, width, height."""
    return torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], dim=1)
