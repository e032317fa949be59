"""Object detection and instance segmentation on COCO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbones.config import DENSE_PATCH
from backbones.errors import InputError, UsageError
from tasks.adapter import (
    CODALAB_MAX_BYTES,
    Finding,
    Metric,
    Progress,
    Sample,
    Split,
    Submission,
    TaskAdapter,
    TaskContext,
)
from tasks.common.checking import check_splits, compared
from tasks.detection import results
from tasks.detection.recipes import RECIPES, DetectionRecipe

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import nn
    from torch.utils.data import Dataset

    from tasks.bootstrap import Measurement
    from tasks.common.pictures import DrawnObject
    from tasks.detection.model import Detector

SEGMENTATION = "segmentation"  # of an object, where there are masks
MIN_SHOWN_SCORE = 0.3  # of what a picture shows
KINDS = {"boxes": "box", "masks": "mask"}  # of metrics, by the part of a record

_SIZES = {"s": "objects up to 32² pixels", "m": "objects of 32² to 96² pixels", "l": "objects from 96² pixels"}


def _metrics(kind: str) -> list[Metric]:
    source = "pycocotools COCOeval, summarize()"
    meanings = {
        "AP": "AP, mean over ten IoUs from 0.5 to 0.95 and over categories",
        "AP50": "AP at IoU 0.5",
        "AP75": "AP at IoU 0.75",
        **{f"AP{letter}": f"AP of {objects}" for letter, objects in _SIZES.items()},
        **{f"AR{most}": f"recall with at most {most} detections of a category in an image" for most in (1, 10, 100)},
        **{f"AR{letter}": f"AR100 of {objects}" for letter, objects in _SIZES.items()},
    }
    return [
        Metric(name=f"{kind}_{name}", unit="percent", source=f"{source}: {text}", primary=(kind, name) == ("box", "AP"))
        for name, text in meanings.items()
    ]


class CocoDetection(TaskAdapter):
    """Average precision and recall of boxes and of masks.

    Layout: `train2017/`, `val2017/` and `test2017/` with the images, `annotations/` with instances_train2017.json,
    instances_val2017.json and image_info_test-dev2017.json (`tasks.detection.annotations` has their form). The servers
    of test-dev, CodaLab 7384 for boxes and 7383 for masks, take nothing since 2026 (cocodataset/cocoapi issue 691).

    Any set in this form and layout can be trained on. Objects365 v2: a folder whose annotations/instances_*2017.json
    are its zhiyuan_objv2_*.json, and in which the folders of images bear the names that these files give, such as
    train2017/images/v1/patch8; links will do. It has boxes alone, which is what the recipe `giant_objects365` learns;
    the weights that it leaves are the --weights of the recipe `giant` on COCO, where heads of another form start from
    random weights.
    """

    name = "coco_detection"
    dataset = "COCO 2017"
    citation = "Lin et al., Microsoft COCO: Common Objects in Context, ECCV 2014"
    splits: Mapping[str, Split] = {
        "train": Split(size=118_287),
        "val": Split(size=5_000),
        "test-dev": Split(
            size=20_288, labels=False, server="CodaLab 7384 (boxes) and 7383 (masks)", largest_file=CODALAB_MAX_BYTES
        ),
    }
    metrics = (*_metrics("box"), *_metrics("mask"))
    recipes = RECIPES
    folder = "coco"
    record_bytes = 40_000  # 100 boxes with masks
    pictures = True
    prediction_forms = (
        '.json: [{"image_id": 1, "category_id": 1, "score": 0.9, "bbox": [x, y, width, height] and/or "segmentation": '
        '{"size": [height, width], "counts": "…"}}]; .jsonl of `harness predict`'
    )

    def backbone_options(self, recipe: DetectionRecipe, *, layers: int) -> dict[str, Any]:
        """Window attention, with `global_blocks` evenly spaced global-attention layers (the last of each block)."""
        if not recipe.window:
            return {"final_norm": False, "patch_size": DENSE_PATCH}
        everywhere = tuple(number * layers // recipe.global_blocks - 1 for number in range(1, recipe.global_blocks + 1))
        return {
            "final_norm": False,
            "patch_size": DENSE_PATCH,
            "window": recipe.window,
            "global_layers": everywhere,
        }

    def require_backbone(self, backbone: nn.Module, recipe: DetectionRecipe) -> None:
        """Maps of one stride for all layers, and of other sizes than the training crop where views have them."""
        backbone.map_layers  # noqa: B018  raises the error
        sizes = recipe.test_scales or (recipe.test_size or recipe.image_size,)
        if not backbone.any_size and set(sizes) != {recipe.image_size}:
            raise UsageError(
                f"This backbone takes images of {recipe.image_size} pixels only, and recipe {recipe.name} predicts in "
                f"{', '.join(map(str, sizes))}. Use --set test_size={recipe.image_size} --set test_scales=[]."
            )

    def check(self, root: Path, *, decode: bool, progress: Progress) -> list[Finding]:
        def describe(split: str, samples: Sequence[Sample]) -> str:
            images = compared(len(samples), "images", self.splits[split].size)
            if not self.splits[split].labels:
                return images
            objects = sum(len(sample.annotation["objects"]) for sample in samples)
            return f"{images}, {objects:,} objects of {len(self.labels(root))} categories"

        def notes(split: str, samples: Sequence[Sample]) -> list[str]:
            from tasks.detection.annotations import annotation_warnings

            return annotation_warnings(samples) if self.splits[split].labels else []

        return check_splits(
            self,
            root,
            describe=describe,
            notes=notes,
            images=lambda sample: [sample.inputs["image"]],
            decode=decode,
            progress=progress,
        )

    def samples(self, root: Path, split: str) -> Sequence[Sample]:
        from tasks.detection.annotations import read_samples

        self.split(split)
        return read_samples(root, split)

    def labels(self, root: Path) -> dict[int, str]:
        """Category names by id, in the order of the model's outputs.

        Raises:
            InputError: there is no annotation file, or it is not of its form.
        """
        from tasks.detection.annotations import categories

        return categories(root)

    def source(self, sample: Sample) -> str:
        return sample.inputs["image"]

    def train_set(self, samples: Sequence[Sample], context: TaskContext) -> Dataset:
        """See `DetectionTrainSet`; images without an object to learn are left out, as ViTDet does.

        Raises:
            InputError: no image has an object, or masks are to be learnt and there are none.
        """
        from tasks.detection.annotations import unmasked, with_objects
        from tasks.detection.dataset import DetectionTrainSet

        taught = with_objects(samples)
        if not taught:
            raise InputError(f"None of the {len(samples):,} training images under {context.root} has an object.")
        if context.recipe.masks and (without := unmasked(taught)):
            raise InputError(
                f"The training annotations under {context.root} have boxes but no masks, for {without}, and recipe "
                f"{context.recipe.name} learns masks too. Use --set masks=false, or annotations with segmentations."
            )
        return DetectionTrainSet(taught, root=context.root, recipe=context.recipe, categories=context.labels)

    def eval_set(self, samples: Sequence[Sample], context: TaskContext) -> Dataset:
        from tasks.detection.dataset import DetectionEvalSet

        return DetectionEvalSet(samples, root=context.root, recipe=context.recipe)

    def model(self, backbone: nn.Module, context: TaskContext) -> Detector:
        from tasks.detection.model import Detector

        return Detector(backbone, classes=list(context.labels), recipe=context.recipe)

    def score(
        self,
        predictions: Mapping[str, Mapping[str, Any]],
        samples: Sequence[Sample],
        *,
        labels: Mapping[int, str] | None = None,
    ) -> list[Measurement]:
        """Metrics of the parts that the records have, boxes and masks; the others get no row."""
        from tasks.bootstrap import unavailable
        from tasks.detection.metrics import checked, measure

        # pycocotools goes through the images by rising id, which decides between equal scores.
        samples = sorted(samples, key=lambda sample: int(sample.id))
        truths = [sample.annotation for sample in samples]
        records = [checked(predictions[s.id], s.annotation, labels, image=s.id) for s in samples]
        objects = [each for truth in truths for each in truth["objects"]]
        without_mask = sum(SEGMENTATION not in each for each in objects)
        measured = []
        for part in results.parts(predictions):
            if part == "masks" and without_mask:
                reason = f"the annotations have boxes but no masks of {without_mask:,} of {len(objects):,} objects"
                measured += [unavailable(metric.name, reason, samples=len(samples)) for metric in _metrics("mask")]
            else:
                measured += measure(records, truths, labels, kind=KINDS[part])
        return measured

    def picture(
        self, sample: Sample, record: Mapping[str, Any], root: Path, *, labels: Mapping[int, str] | None = None
    ) -> Image:
        """Draw the objects, and the detections with a score of at least `MIN_SHOWN_SCORE`."""
        import numpy as np

        from tasks.common.images import open_image
        from tasks.common.pictures import detection_picture, distinct_colours

        image = np.asarray(open_image(root / sample.inputs["image"], upright=True))
        truth = None if sample.annotation is None else _drawn(sample, sample.annotation["objects"], labels)
        found = _drawn(sample, _shown(record), labels)
        return detection_picture(image, truth, found, colours=distinct_colours(len(labels)))

    def read_official(self, path: Path) -> list[dict[str, Any]]:
        """Records of a COCO results file, see `tasks.detection.results.read`."""
        return results.read(path)

    def empty_record(self, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return results.empty(records)

    def submission(
        self,
        predictions: Mapping[str, Mapping[str, Any]],
        samples: Sequence[Sample],
        *,
        split: str,
        name: str,
        labels: Mapping[int, str] | None = None,
    ) -> list[Submission]:
        """Boxes and masks in a file each, since a server takes one of them."""
        self.require_served(split)
        return [
            Submission(*results.archive(predictions, samples, labels, part=part, split=split, name=name))
            for part in results.parts(predictions)
        ]


def _shown(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The detections to draw, in the form of annotations; the best last, so that it is on top."""
    masks, boxes = record.get("masks"), record.get("boxes")
    shown = [
        {
            "category_id": int(record["labels"][index]),
            "score": float(score),
            "bbox": boxes[index].tolist() if boxes is not None else None,
            SEGMENTATION: masks[index] if masks is not None else None,
        }
        for index, score in enumerate(record["scores"])
        if score >= MIN_SHOWN_SCORE
    ]
    return sorted(shown, key=lambda each: each["score"])


def _drawn(sample: Sample, objects: Sequence[Mapping[str, Any]], categories: Mapping[int, str]) -> list[DrawnObject]:
    from pycocotools import mask

    from tasks.common.pictures import DrawnObject
    from tasks.detection.bitmaps import bitmap

    classes = {category: index for index, category in enumerate(categories)}
    drawn = []
    for each in objects:
        segmentation = each.get(SEGMENTATION)
        pixels = None
        if segmentation is not None:
            pixels = bitmap(segmentation, sample.inputs["height"], sample.inputs["width"]).astype(bool)
        score = f" {each['score']:.2f}" if "score" in each else ""
        box = each["bbox"] if each["bbox"] is not None else mask.toBbox(segmentation).tolist()
        category = each["category_id"]
        drawn.append(DrawnObject(categories[category] + score, classes[category], box, pixels))
    return drawn
