"""ADE20K semantic segmentation: which class has each pixel?"""

from __future__ import annotations

import dataclasses
import io
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from backbones.errors import InputError, UsageError
from tasks.adapter import Finding, Metric, Progress, Sample, Setting, Split, Submission, TaskAdapter
from tasks.checking import check_splits, compared
from tasks.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np
    from torch import nn
    from torch.utils.data import Dataset

    from tasks.models.segmenter import Segmenter
    from tasks.statistics import Measurement


@dataclass(frozen=True, kw_only=True)
class ADE20KRecipe(Recipe):
    """Fine-tuning on crops of `image_size` × `image_size`; images that are smaller are padded by the model.

    Multi-scale results ("MS") come from the `_ms` recipes, which differ in `tta_ratios` and `tta_flip` only:
    `harness predict ade20k --recipe large_ms --weights final.safetensors`.
    """

    head: Literal["upernet", "mask2former"]
    scale: tuple[int, int]  # images fit into this before the random ratio: longer and shorter side, pixels
    ratio_range: tuple[float, float] = (0.5, 2.0)
    cat_max_ratio: float = 0.75  # largest share of a crop that one class should take
    schedule: Literal["cosine", "poly", "step"] = "poly"
    inference: Literal["slide", "whole"] = "slide"  # windows of image_size × image_size, or the image in one piece
    stride: int  # of the windows, pixels
    tta_ratios: tuple[float, ...] = (1.0,)  # test sizes as multiples of `scale`, their predictions averaged
    tta_flip: bool = False  # each size mirrored too

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = {
            "scale": len(self.scale) != 2 or not all(isinstance(side, int) and side > 0 for side in self.scale),
            "ratio_range": len(self.ratio_range) != 2 or not 0 < self.ratio_range[0] <= self.ratio_range[1],
            "cat_max_ratio": not 0 < self.cat_max_ratio <= 1,
            "stride": not 0 < self.stride <= self.image_size,
            "tta_ratios": not self.tta_ratios or not all(ratio > 0 for ratio in self.tta_ratios),
        }
        for name, wrong in problems.items():
            if wrong:
                raise UsageError(f"Recipe field {name} cannot be {getattr(self, name)}: {_ALLOWED[name]}.")


_ALLOWED = {
    "scale": "two sides in whole pixels, as in --set scale=[2048,512]",
    "ratio_range": "the smallest and the largest ratio, as in --set ratio_range=[0.5,2.0]",
    "cat_max_ratio": "a share, more than 0 and at most 1",
    "stride": "from 1 to image_size, as windows further apart would leave gaps",
    "tta_ratios": "ratios above 0, as in --set tta_ratios=[0.75,1.0,1.25]",
}
_VIT_ADAPTER = "ViT-Adapter mask2former_beitv2_adapter_large_896_80k_ade20k_ss.py"
_BEIT2 = "unilm beit2 upernet_beit_{}_512_slide_160k_ade20k.py"


def _mask2former(name: str, **numbers: Any) -> ADE20KRecipe:
    shared = {
        "head": "mask2former",
        "image_size": 896,
        "scale": (3584, 896),
        "stride": 512,
        "steps": 80_000,
        "warmup_steps": 1_500,
        "batch_size": 16,
        "start_lr": 1e-6 * numbers["lr"],
        "weight_decay": 0.05,
        "checkpoint_activations": True,
    }
    return ADE20KRecipe(name=f"beit3_{name}_ade20k", **shared, **numbers)


def _upernet(name: str, **numbers: Any) -> ADE20KRecipe:
    shared = {
        "head": "upernet",
        "image_size": 512,
        "scale": (2048, 512),
        "stride": 341,
        "steps": 160_000,
        "warmup_steps": 1_500,
        "batch_size": 16,
        "start_lr": 1e-6 * numbers["lr"],
        "weight_decay": 0.05,
    }
    return ADE20KRecipe(
        name=f"beit3_{name}_upernet_ade20k", source=_BEIT2.format(f"{name}_{_LAYERS[name]}"), **shared, **numbers
    )


def _multi_scale(recipe: ADE20KRecipe, sides: Sequence[int], source: str) -> ADE20KRecipe:
    return dataclasses.replace(
        recipe,
        name=f"{recipe.name}_ms",
        source=f"{recipe.source}; test sizes {source}",
        tta_ratios=tuple(side / recipe.image_size for side in sides),
        tta_flip=True,
    )


_LAYERS = {"base": 12, "large": 24}
_BASE = _mask2former(
    "base", source=f"{_VIT_ADAPTER}; drop path {_BEIT2.format('base_12')}", lr=2e-5, layer_decay=0.9, drop_path=0.15,
    micro_batch=2,
)  # fmt: skip
_LARGE = _mask2former("large", source=_VIT_ADAPTER, lr=2e-5, layer_decay=0.9, drop_path=0.3, micro_batch=1)
# The paper follows ViT-Adapter; Table 15 has the numbers that differ.
_GIANT = _mask2former(
    "giant", source="arXiv 2208.10442, Table 15; the rest ViT-Adapter's", lr=1e-5, layer_decay=0.95, drop_path=0.5,
    micro_batch=1,
)  # fmt: skip
_MS_VIT_ADAPTER = ((800, 832, 864, 896), "mask2former_beitv2_adapter_large_896_80k_ade20k_ms.py")
_MS_EVA = ((512, 640, 768, 896, 1024, 1152, 1280), "EVA-01's")
RECIPES = {
    "base": _BASE,
    "base_ms": _multi_scale(_BASE, *_MS_VIT_ADAPTER),
    "base_upernet": _upernet("base", lr=5e-5, layer_decay=0.75, drop_path=0.15, micro_batch=8),
    "large": _LARGE,
    "large_ms": _multi_scale(_LARGE, *_MS_VIT_ADAPTER),
    "large_upernet": _upernet("large", lr=4e-5, layer_decay=0.9, drop_path=0.2, micro_batch=4),
    "giant": _GIANT,
    "giant_ms": _multi_scale(_GIANT, *_MS_EVA),
    "nano": ADE20KRecipe(
        name="multiway_nano_ade20k", source="ours, for two laptop cores and the toy data", head="upernet",
        image_size=128, scale=(512, 128), stride=86, epochs=10, warmup_epochs=1, batch_size=16, lr=1e-3,
        weight_decay=0.05, drop_path=0.0, clip_grad=3.0, micro_batch=16, workers=1,
    ),
}  # fmt: skip


class ADE20K(TaskAdapter):
    """Mean intersection over union over 150 classes, or those that `objectInfo150.txt` lists.

    Layout: the official ADEChallengeData2016.zip and, for the test split, release_test.zip (see tasks/ade20k_data.py).
    A sample's id is its image's name without extension. A predicted map has 1 + class in every pixel, as the label
    maps have; 0 is allowed in maps from elsewhere and is right nowhere.
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
    final_norm = False

    def check(self, root: Path, *, decode: bool, progress: Progress) -> list[Finding]:
        from tasks.ade20k_data import CLASS_FILE, class_names

        def told(split: str, samples: Sequence[Sample]) -> str:
            return compared(len(samples), "images", self.splits[split].size)

        listed = f"of {CLASS_FILE}" if (root / CLASS_FILE).is_file() else f"official ones, as there is no {CLASS_FILE}"
        try:
            findings = [Finding(True, f"classes: the {len(class_names(root))} {listed}")]
        except InputError as error:
            return [Finding(False, str(error))]
        findings += check_splits(
            self, root, told=told, images=lambda sample: [sample.inputs["image"]], decode=decode, progress=progress
        )
        return findings + (self._broken_maps(root, progress) if decode else [])

    def _broken_maps(self, root: Path, progress: Progress) -> list[Finding]:
        from tasks.ade20k_data import label_map

        findings = []
        for split, facts in self.splits.items():
            try:
                samples = self.samples(root, split) if facts.labels else []
            except InputError:
                continue  # check_splits has told
            for sample in progress(samples, f"decode label maps of {split}"):
                try:
                    label_map(sample, size=_image_size(sample))
                except InputError as error:
                    findings.append(Finding(False, str(error)))
        return findings

    def samples(self, root: Path, split: str) -> list[Sample]:
        from tasks import ade20k_data

        return ade20k_data.samples(root, split) if self.split(split).labels else ade20k_data.unlabelled_samples(root)

    def train_set(self, samples: Sequence[Sample], setting: Setting) -> Dataset:
        from tasks.items.segmentations import training_items

        recipe = setting.recipe
        return training_items(
            samples,
            crop=recipe.image_size,
            scale=recipe.scale,
            ratio_range=recipe.ratio_range,
            cat_max_ratio=recipe.cat_max_ratio,
        )

    def eval_set(self, samples: Sequence[Sample], setting: Setting) -> Dataset:
        from tasks.items.segmentations import whole_items

        return whole_items(samples, scale=setting.recipe.scale)

    def model(self, backbone: nn.Module, setting: Setting) -> Segmenter:
        from tasks.ade20k_data import class_names
        from tasks.models.segmenter import Segmenter

        return Segmenter(backbone, classes=len(class_names(setting.root)), recipe=setting.recipe)

    def score(self, predictions: Mapping[str, Mapping[str, Any]], samples: Sequence[Sample]) -> list[Measurement]:
        import numpy as np

        from tasks.ade20k_data import label_map
        from tasks.label_maps import require_same_size
        from tasks.scores.segmentation import count, measure

        def counts(sample: Sample) -> np.ndarray:
            label, predicted = label_map(sample), _predicted_map(predictions[sample.id], sample)
            height, width = label.shape
            truth = f"label map {sample.inputs['map']}"
            require_same_size(predicted, (width, height), what=_the_prediction(sample), than=truth)
            return count(predicted, label, classes=len(sample.inputs["classes"]))

        with ThreadPoolExecutor() as pool:  # each thread holds the maps of one image at a time
            every = np.stack(list(pool.map(counts, samples)))
        return measure(every, samples[0].inputs["classes"])

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
        return [{"id": name, "labels": np.frombuffer(content, np.uint8)} for name, content in maps]

    def submission(
        self, predictions: Mapping[str, Mapping[str, Any]], samples: Sequence[Sample], *, split: str, name: str
    ) -> Submission:
        from tasks.label_maps import encoded, require_same_size

        if not self.splits[split].server:
            raise UsageError(
                f"The label maps of {split} are public, so no server takes it: `harness score {self.name}` scores it."
            )

        def content(sample: Sample) -> bytes:
            predicted = _predicted_map(predictions[sample.id], sample)
            image = f"image {sample.inputs['image']}"
            require_same_size(predicted, _image_size(sample), what=_the_prediction(sample), than=image)
            return encoded(predicted)

        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file, ThreadPoolExecutor() as pool:
            for sample, png in zip(samples, pool.map(content, samples), strict=True):
                file.writestr(zipfile.ZipInfo(f"{sample.id}.png"), png)  # a fixed date: equal maps, equal files
        return Submission(f"ade20k_{split}_{name}.zip", archive.getvalue())


def _the_prediction(sample: Sample) -> str:
    return f"The prediction of {sample.id}"


def _predicted_map(record: Mapping[str, Any], sample: Sample) -> np.ndarray:
    import numpy as np

    from tasks.label_maps import read_map

    labels = record.get("labels")
    if not isinstance(labels, np.ndarray) or labels.dtype != np.uint8 or labels.ndim != 1:
        raise InputError(
            f"{_the_prediction(sample)} has no bytes of a PNG map under 'labels' (found: {str(labels)[:80]}). A record "
            "of this task is written by `harness predict`; maps from elsewhere are read as a folder of PNG files."
        )
    return read_map(labels.tobytes(), classes=len(sample.inputs["classes"]), what=_the_prediction(sample))


def _image_size(sample: Sample) -> tuple[int, int]:
    from tasks.images import image_size

    return image_size(Path(sample.inputs["image"]))
