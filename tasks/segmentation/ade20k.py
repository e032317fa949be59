"""ADE20K semantic segmentation: the class of each pixel."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbones.config import COARSEST_STRIDE, DENSE_PATCH
from backbones.errors import InputError, UsageError
from tasks.adapter import Finding, Metric, Progress, Sample, Split, Submission, TaskAdapter, TaskContext
from tasks.common.checking import check_splits, compared
from tasks.segmentation.recipes import RECIPES, SegmentationRecipe

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image
    from torch import nn
    from torch.utils.data import Dataset

    from tasks.bootstrap import Measurement
    from tasks.segmentation.model import Segmenter


class ADE20K(TaskAdapter):
    """Mean intersection over union over 150 classes, or those that `objectInfo150.txt` lists.

    Layout: the official ADEChallengeData2016.zip and, for the test split, release_test.zip (see
    `tasks.segmentation.annotations`). A sample's id is its image's name without extension. A predicted map has
    1 + class in every pixel, as the label maps have; 0 is allowed in maps from elsewhere and is right nowhere.
    """

    name = "ade20k"
    dataset = "ADE20K (SceneParse150)"
    citation = "Zhou et al., Scene Parsing through ADE20K Dataset, CVPR 2017"
    splits: Mapping[str, Split] = {
        "train": Split(size=20_210),
        "val": Split(size=2_000),
        "test": Split(size=3_352, labels=False, server="the MIT Scene Parsing Benchmark"),
    }
    metrics = (
        Metric(
            name="mIoU", unit="percent", primary=True,
            source="mmseg/evaluation/metrics/iou_metric.py: mean over the classes that occur",
        ),
        Metric(
            name="mIoU_all_classes", unit="percent",
            source="CSAILVision/sceneparsing demoEvaluation.m: a class that never occurs counts as 0",
        ),
        Metric(name="mAcc", unit="percent", source="mmseg/evaluation/metrics/iou_metric.py"),
        Metric(name="aAcc", unit="percent", source="CSAILVision/sceneparsing demoEvaluation.m: pixel-wise accuracy"),
        Metric(name="IoU", unit="percent", source="mmseg/evaluation/metrics/iou_metric.py, of one class"),
    )  # fmt: skip
    recipes = RECIPES
    folder = "ADEChallengeData2016"
    record_bytes = 60_000  # a PNG map
    pictures = True
    prediction_forms = (
        "a folder or a .zip of PNG maps named like the images, 1 + class in every pixel; .jsonl of `harness predict`"
    )

    def backbone_options(self, recipe: SegmentationRecipe, *, layers: int) -> dict[str, Any]:
        """UPerNet's pyramid wants patches of 16 pixels; the ViT-Adapter makes its own strides beside any."""
        return {"final_norm": False} | ({"patch_size": DENSE_PATCH} if recipe.head == "upernet" else {})

    def require_backbone(self, backbone: nn.Module, recipe: SegmentationRecipe) -> None:
        """Maps of one stride for UPerNet, a Multiway backbone for the ViT-Adapter, and crops without a remainder."""
        if recipe.head == "mask2former" and not backbone.runs_by_layers:
            light = [name for name, other in self.recipes.items() if other.head == "upernet" and name != "nano"]
            raise UsageError(
                f"Recipe {recipe.name} runs a ViT-Adapter between the layers of a Multiway backbone, or of timm's "
                "plain vision transformers and BEiT: this backbone is none of them. Use a recipe with UPerNet: "
                f"--recipe {' or --recipe '.join(light)}."
            )
        if backbone.map_layers < 4:
            raise UsageError(f"UPerNet takes maps of four layers, and this backbone has {backbone.map_layers}.")
        absent = [layer for layer in recipe.layers or () if not 0 <= layer < backbone.map_layers]
        if recipe.head == "upernet" and absent:
            raise UsageError(
                f"Recipe field layers names the layer {absent[-1]}, and the backbone has {backbone.map_layers}, from 0 "
                "on. Use the recipe of its size, or --set layers=none for the last layer of each quarter."
            )
        multiple = math.lcm(backbone.patch_size, COARSEST_STRIDE)
        if recipe.image_size % multiple:
            near = max(round(recipe.image_size / multiple), 1) * multiple
            raise UsageError(
                f"Crops of {recipe.image_size} pixels leave a remainder in maps of stride {COARSEST_STRIDE} or patches "
                f"of {backbone.patch_size}, which would be cut off. Use --set image_size={near}."
            )
        if recipe.inference == "whole" and not backbone.any_size:
            raise UsageError("This backbone takes images of one size only: use --set inference=slide.")

    def check(self, root: Path, *, decode: bool, progress: Progress) -> list[Finding]:
        from tasks.segmentation.annotations import CLASS_FILE, class_names

        def describe(split: str, samples: Sequence[Sample]) -> str:
            return compared(len(samples), "images", self.splits[split].size)

        listed = f"of {CLASS_FILE}" if (root / CLASS_FILE).is_file() else f"official ones, as there is no {CLASS_FILE}"
        try:
            findings = [Finding(True, f"classes: the {len(class_names(root))} {listed}")]
        except InputError as error:
            return [Finding(False, str(error))]
        findings += check_splits(
            self,
            root,
            describe=describe,
            images=lambda sample: [sample.inputs["image"]],
            decode=decode,
            progress=progress,
        )
        return findings + (self._broken_maps(root, progress) if decode else [])

    def _broken_maps(self, root: Path, progress: Progress) -> list[Finding]:
        from tasks.segmentation.annotations import label_map

        findings = []
        for split, facts in self.splits.items():
            try:
                samples = self.samples(root, split) if facts.labels else []
            except InputError:
                continue  # check_splits has reported it
            for sample in progress(samples, f"decode label maps of {split}"):
                try:
                    label_map(sample, size=_image_size(sample))
                except InputError as error:
                    findings.append(Finding(False, str(error)))
        return findings

    def samples(self, root: Path, split: str) -> list[Sample]:
        from tasks.segmentation.annotations import read_samples, unlabelled_samples

        return read_samples(root, split) if self.split(split).labels else unlabelled_samples(root)

    def labels(self, root: Path) -> tuple[str, ...]:
        """Class names in the order of their ids."""
        from tasks.segmentation.annotations import class_names

        return class_names(root)

    def train_set(self, samples: Sequence[Sample], context: TaskContext) -> Dataset:
        from tasks.segmentation.dataset import training_set

        recipe = context.recipe
        return training_set(
            samples,
            crop=recipe.image_size,
            scale=recipe.scale,
            ratio_range=recipe.ratio_range,
            cat_max_ratio=recipe.cat_max_ratio,
        )

    def eval_set(self, samples: Sequence[Sample], context: TaskContext) -> Dataset:
        from tasks.segmentation.dataset import SegmentationEvalSet

        recipe = context.recipe
        return SegmentationEvalSet(samples, scale=recipe.scale, ratios=recipe.tta_ratios, multiple=recipe.test_multiple)

    def model(self, backbone: nn.Module, context: TaskContext) -> Segmenter:
        from tasks.segmentation.model import Segmenter

        return Segmenter(backbone, classes=len(context.labels), recipe=context.recipe)

    def score(
        self,
        predictions: Mapping[str, Mapping[str, Any]],
        samples: Sequence[Sample],
        *,
        labels: Sequence[str] = (),
    ) -> list[Measurement]:
        import numpy as np

        from tasks.segmentation.annotations import label_map
        from tasks.segmentation.label_maps import require_same_size
        from tasks.segmentation.metrics import count, measure, require_ids_from_one

        def counts(sample: Sample) -> tuple[np.ndarray, int, int]:
            label = label_map(sample)
            predicted = _predicted_map(predictions[sample.id], sample, classes=len(labels))
            height, width = label.shape
            truth = f"label map {sample.inputs['map']}"
            require_same_size(predicted, (width, height), what=_the_prediction(sample), than=truth)
            shifted = np.count_nonzero((predicted > 0) & (predicted + np.uint8(1) == label))
            zeros = predicted.size - np.count_nonzero(predicted)
            return count(predicted, label, classes=len(labels)), zeros, shifted

        with ThreadPoolExecutor() as pool:  # each thread holds the maps of one image at a time
            counted, zeros, shifted = zip(*pool.map(counts, samples), strict=True)
        every = np.stack(counted)  # [images, 3, classes]
        require_ids_from_one(sum(zeros), int(every[:, 0].sum()), sum(shifted))
        return measure(every, labels)

    def hashed_inputs(self, sample: Sample, root: Path) -> Any:
        return {"image": Path(sample.inputs["image"]).name}  # the folder of test images differs from one to another

    def picture(self, sample: Sample, record: Mapping[str, Any], root: Path, *, labels: Sequence[str] = ()) -> Image:
        import numpy as np

        from tasks.common.images import open_image
        from tasks.common.pictures import segmentation_picture
        from tasks.segmentation.annotations import class_colours, label_map

        return segmentation_picture(
            np.asarray(open_image(Path(sample.inputs["image"]), upright=True)),
            label_map(sample) if sample.annotation is not None else None,
            _predicted_map(record, sample, classes=len(labels)),
            names=labels,
            colours=class_colours(labels),
        )

    def read_official(self, path: Path) -> list[dict[str, Any]]:
        """A folder or a zip file of PNG maps named like the images, as the benchmark's server takes them."""
        import numpy as np

        if path.is_dir():
            maps = [(file.stem, file.read_bytes()) for file in sorted(path.glob("*.png"))]
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if name.endswith(".png")]
                maps = [(Path(name).stem, archive.read(name)) for name in names]
        else:
            raise InputError(f"{path} is neither a folder nor a zip file of PNG maps named like the images.")
        return [{"id": name, "png": np.frombuffer(content, np.uint8)} for name, content in maps]

    def submission(
        self,
        predictions: Mapping[str, Mapping[str, Any]],
        samples: Sequence[Sample],
        *,
        split: str,
        name: str,
        labels: Sequence[str] = (),
    ) -> list[Submission]:
        from tasks.segmentation.label_maps import encoded, require_same_size

        self.require_served(split)

        def content(sample: Sample) -> bytes:
            predicted = _predicted_map(predictions[sample.id], sample, classes=len(labels))
            image = f"image {sample.inputs['image']}"
            require_same_size(predicted, _image_size(sample), what=_the_prediction(sample), than=image)
            return encoded(predicted)

        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file, ThreadPoolExecutor() as pool:
            for sample, png in zip(samples, pool.map(content, samples), strict=True):
                file.writestr(zipfile.ZipInfo(f"{sample.id}.png"), png)  # a fixed date: equal maps, equal files
        return [Submission(f"ade20k_{split}_{name}.zip", archive.getvalue())]


def _the_prediction(sample: Sample) -> str:
    return f"The prediction of {sample.id}"


def _predicted_map(record: Mapping[str, Any], sample: Sample, *, classes: int) -> np.ndarray:
    import numpy as np

    from tasks.segmentation.label_maps import read_map

    png = record.get("png", record.get("labels"))  # the name that it had in files of earlier versions
    if not isinstance(png, np.ndarray) or png.dtype != np.uint8 or png.ndim != 1:
        raise InputError(
            f"{_the_prediction(sample)} has no bytes of a PNG map under 'png' (found: {str(png)[:80]}). A record of "
            "this task is written by `harness predict`; maps from elsewhere are read as a folder of PNG files."
        )
    return read_map(png.tobytes(), classes=classes, what=_the_prediction(sample))


def _image_size(sample: Sample) -> tuple[int, int]:
    from tasks.common.images import image_size

    return image_size(Path(sample.inputs["image"]), upright=True)
