"""ImageNet-1K classification, and any other set of class folders."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbones.errors import InputError, UsageError
from tasks import deviations
from tasks.adapter import Finding, Metric, Progress, Sample, Setting, Split, TaskAdapter
from tasks.checking import check_splits, compared
from tasks.reading import Remembered, field, read_json, read_lines
from tasks.recipe import Recipe

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.data import Dataset

    from tasks.models.classifier import ImageClassifier
    from tasks.packing import Packed
    from tasks.statistics import Measurement

EXTENSIONS = {".jpeg", ".jpg", ".png", ".bmp", ".webp"}
REAL_FILE = "real.json"
VAL_NUMBER = re.compile(r"ILSVRC2012_val_(\d{8})")


@dataclass(frozen=True, kw_only=True)
class ImageNetRecipe(Recipe):
    """Augmentation as timm names it."""

    mixup: float = 0.8  # Beta parameter; 0 = off
    cutmix: float = 1.0
    mixup_group: int = 128  # samples that are mixed to the same degree: a GPU's in the official training
    label_smoothing: float = 0.1
    auto_augment: str | None = "rand-m9-mstd0.5-inc1"
    color_jitter: float = 0.4  # without effect beside auto_augment
    random_erasing: float = 0.25
    smallest_crop: float = 0.08  # of the area, in RandomResizedCrop
    crop_pct: float = 1.0

    ONLY_TRAINING = (
        *Recipe.ONLY_TRAINING, "mixup", "cutmix", "mixup_group", "label_smoothing", "auto_augment", "color_jitter",
        "random_erasing", "smallest_crop",
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mixup_group <= 0 or self.mixup_group % 2:
            raise UsageError(f"Recipe field mixup_group is an even number above 0, not {self.mixup_group}.")


_DEVIATIONS = (*deviations.OFFICIAL, "augmentation of the installed timm, not of 0.4.12")
_OFFICIAL = "unilm beit3/get_started/get_started_for_image_classification.md and the code's defaults"
RECIPES = {
    "base": ImageNetRecipe(
        name="beit3_base_imagenet", source=_OFFICIAL, image_size=224, epochs=50, warmup_epochs=5, batch_size=1024,
        lr=7e-4, layer_decay=0.65, weight_decay=0.05, drop_path=0.15, micro_batch=64,
        deviations=_DEVIATIONS,
    ),
    "large": ImageNetRecipe(
        name="beit3_large_imagenet", source=_OFFICIAL, image_size=224, epochs=50, warmup_epochs=5, batch_size=1024,
        lr=2e-4, layer_decay=0.8, weight_decay=0.05, drop_path=0.25, micro_batch=32,
        deviations=_DEVIATIONS,
    ),
    "giant": ImageNetRecipe(
        name="beit3_giant_imagenet", source="arXiv 2208.10442, Table 17, ImageNet-1K column", image_size=336,
        epochs=15, warmup_epochs=3, batch_size=2048, lr=3e-5, layer_decay=0.95, weight_decay=0.05, drop_path=0.4,
        mixup=0.0, cutmix=0.0, auto_augment=None, color_jitter=0.0, random_erasing=0.0, micro_batch=8,
        checkpoint_activations=True,
        deviations=(
            "a linear head on the mean of the patches, while the paper retrieves class names with two encoders",
            "no stage on ImageNet-21K goes before, unless the weights had it",
            "the paper states no augmentation: crops of at least 8% of the area and flips alone",
            "the paper's batch of 2k is 2,048", deviations.SCHEDULE,
        ),
    ),
    "nano": ImageNetRecipe(
        name="multiway_nano_imagenet", source="ours, for two laptop cores and the toy data", image_size=64, epochs=12,
        warmup_epochs=1, batch_size=64, lr=1.5e-3, layer_decay=1.0, weight_decay=0.05, drop_path=0.0, clip_grad=3.0,
        mixup=0.0, cutmix=0.0, auto_augment=None, color_jitter=0.0, random_erasing=0.0, smallest_crop=0.5,
        label_smoothing=0.1, micro_batch=64, workers=1,
    ),
}  # fmt: skip


class ImageNet(TaskAdapter):
    """Top-1 and top-5 accuracy, and ReaL accuracy when `real.json` lies in the data folder.

    Layouts: `train/<class>/*` and `val/<class>/*` (classes in sorted order), or the official
    `imagenet.train.index.jsonl` and `imagenet.val.index.jsonl` beside them, which win when present. A sample's
    id is its image path relative to the data folder, the same in both layouts.
    """

    name = "imagenet"
    dataset = "ImageNet-1K (ILSVRC 2012)"
    citation = "Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, IJCV 2015"
    splits: Mapping[str, Split] = {"train": Split(size=1_281_167), "val": Split(size=50_000)}
    metrics = (
        Metric(name="top1", unit="percent", primary=True, source="ILSVRC 2012 classification, one guess"),
        Metric(name="top5", unit="percent", source="ILSVRC 2012 classification, five guesses"),
        Metric(
            name="real_top1", unit="percent",
            source="Beyer et al., Are we done with ImageNet?, arXiv 2006.07159: images without a label left out",
        ),
    )  # fmt: skip
    recipes = RECIPES
    folder = "imagenet"

    def check(self, root: Path, *, decode: bool, progress: Progress) -> list[Finding]:
        def told(split: str, samples: Sequence[Sample]) -> str:
            images = compared(len(samples), "images", self.splits[split].size)
            return f"{images}, {len(self.classes(root))} classes"

        findings = check_splits(
            self, root, told=told, images=lambda sample: [sample.inputs], decode=decode, progress=progress
        )
        has_real = (root / REAL_FILE).is_file()
        findings.append(Finding(True, f"ReaL labels: {'found' if has_real else f'no {REAL_FILE}, so no real_top1'}"))
        return findings

    def samples(self, root: Path, split: str) -> Packed:
        from tasks.packing import Packed

        self.split(split)
        real = _real_labels(root) if split == "val" else None
        largest, smallest = (-1, "", ""), (0, "", "")  # labels, with path and place
        names = set()
        index = _index_file(root, split)

        def read() -> Iterator[Sample]:
            nonlocal largest, smallest
            for path, label, where in _index_pairs(index) if index.is_file() else _folder_pairs(root, split):
                names.add(_class_of(path))
                if label > largest[0]:
                    largest = label, path, where
                if label < smallest[0]:
                    smallest = label, path, where
                yield Sample(path, path, {"label": label} | ({} if real is None else {"real": _real_of(path, real)}))

        samples = Packed.of(read())
        if index.is_file():
            _index_classes.keep(index, sorted(names))
        classes = len(self.classes(root))
        for label, path, where in (smallest, largest):
            if not 0 <= label < classes:
                raise InputError(
                    f"{where}: label {label} of {path} is out of range: there are {classes} classes, 0 to "
                    f"{classes - 1}. Labels count the sorted class folders from 0."
                )
        return samples

    def classes(self, root: Path) -> list[str]:
        """Class folder names, in the order of their ids."""
        return _classes(root)

    def labels(self, root: Path) -> list[str]:
        return self.classes(root)

    def train_set(self, samples: Sequence[Sample], setting: Setting) -> Dataset:
        from timm.data import create_transform

        from tasks.images import IMAGENET_MEAN, IMAGENET_STD
        from tasks.items.classification import ClassifiedItems

        recipe = setting.recipe
        if recipe.micro_batch % 2 and (recipe.mixup or recipe.cutmix):
            raise UsageError(
                f"Mixup and cutmix mix pairs of samples, so micro_batch must be even, not {recipe.micro_batch}. Set "
                "another, or turn them off, which changes the result: --set mixup=0 --set cutmix=0."
            )
        transform = create_transform(
            recipe.image_size,
            is_training=True,
            scale=(recipe.smallest_crop, 1.0),
            color_jitter=recipe.color_jitter,
            auto_augment=recipe.auto_augment,
            interpolation="bicubic",
            re_prob=recipe.random_erasing,
            re_mode="pixel",
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
        )
        return ClassifiedItems(samples, root=setting.root, transform=transform)

    def eval_set(self, samples: Sequence[Sample], setting: Setting) -> Dataset:
        from tasks.images import IMAGENET_MEAN, IMAGENET_STD, center_crop
        from tasks.items.classification import ClassifiedItems

        recipe = setting.recipe
        transform = center_crop(recipe.image_size, crop_pct=recipe.crop_pct, mean=IMAGENET_MEAN, std=IMAGENET_STD)
        return ClassifiedItems(samples, root=setting.root, transform=transform)

    def model(self, backbone: nn.Module, setting: Setting) -> ImageClassifier:
        from timm.data import Mixup

        from tasks.models.classifier import ImageClassifier

        recipe = setting.recipe
        classes = len(self.labels_of(setting))
        mixup = None
        if recipe.mixup or recipe.cutmix:
            mixup = Mixup(
                mixup_alpha=recipe.mixup,
                cutmix_alpha=recipe.cutmix,
                label_smoothing=recipe.label_smoothing,
                num_classes=classes,
            )
        return ImageClassifier(
            backbone,
            classes=classes,
            mixup=mixup,
            mixup_group=recipe.mixup_group,
            label_smoothing=recipe.label_smoothing,
        )

    def backbone_options(self, recipe: Recipe, *, layers: int) -> dict[str, Any]:
        return {"final_norm": False}

    def score(self, predictions: Mapping[str, Mapping[str, Any]], samples: Sequence[Sample]) -> list[Measurement]:
        from tasks.statistics import mean

        tops = [_top(predictions[sample.id], sample.id) for sample in samples]
        labels = [sample.annotation["label"] for sample in samples]
        measurements = [
            mean("top1", [top[0] == label for top, label in zip(tops, labels, strict=True)]),
            mean("top5", [label in top[:5] for top, label in zip(tops, labels, strict=True)]),
        ]
        real = [sample.annotation.get("real") for sample in samples]
        if any(real):
            hits = [top[0] in right for top, right in zip(tops, real, strict=True) if right]
            measurements.append(mean("real_top1", hits))
        return measurements


def _top(record: Mapping[str, Any], sample: str) -> Sequence[int]:
    top = record.get("top")
    if not isinstance(top, list) or not top or not all(isinstance(label, int) for label in top):
        raise InputError(
            f"The prediction of {sample} has no list of class ids under 'top', best first (found: {top!r}). "
            'A record of this task is {"id": image path, "top": [5 class ids]}.'
        )
    return top


def _index_file(root: Path, split: str) -> Path:
    return root / f"imagenet.{split}.index.jsonl"


def _index_pairs(file: Path) -> Iterator[tuple[str, int, str]]:
    """(image path, label, where it is written) of an official index file."""
    path = None
    for where, row in read_lines(file, what="the official index of images"):
        path, label = (field(row, name, where=where) for name in ("image_path", "label"))
        if not isinstance(path, str) or not isinstance(label, int):
            raise InputError(
                f'{where} is not of the form {{"image_path": "…", "label": 0}}: {str(row)[:80]}. '
                "Mend the line or make the index again."
            )
        yield path.lstrip("/"), label, where  # official rows may keep a slash from the path in front of them
    if path is None:
        raise InputError(f"{file} is empty. Make the index again, or remove it to use the class folders.")


def _class_of(path: str) -> str:
    """The folder that an image lies in."""
    return path.rpartition("/")[0].rpartition("/")[2]


def _read_index_classes(file: Path) -> list[str]:
    return sorted({_class_of(path) for path, _, _ in _index_pairs(file)})


_index_classes = Remembered(_read_index_classes)


def _folder_pairs(root: Path, split: str) -> Iterator[tuple[str, int, str]]:
    folder = root / split
    if not folder.is_dir():
        raise _no_split(root, split)
    classes = _class_folders(folder)
    if not classes:
        raise InputError(f"{folder} has no class folders. Expected {folder}/<class>/<image>, as ImageNet is laid out.")
    all_classes = {name: label for label, name in enumerate(_classes(root))}
    for name in classes:
        if name not in all_classes:
            raise InputError(
                f"Class folder {folder / name} is not among those of {root / 'train'}. Remove or rename it."
            )
        images = sorted(e.name for e in (folder / name).iterdir() if e.suffix.lower() in EXTENSIONS)
        if not images:
            raise InputError(f"Class folder {folder / name} has no images. Fill it, or remove it from every split.")
        for image in images:
            yield f"{split}/{name}/{image}", all_classes[name], str(folder / name)


def _classes(root: Path) -> list[str]:
    """Class names in the order of their ids; the training split decides when it is there."""
    for split in ImageNet.splits:
        if _index_file(root, split).is_file():
            return _index_classes(_index_file(root, split))
        if (root / split).is_dir():
            return _class_folders(root / split)
    raise _no_split(root, "train")


def _class_folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir())


def _no_split(root: Path, split: str) -> InputError:
    return InputError(
        f"No {split} images under {root}: neither {split}/<class>/<image> nor {_index_file(root, split).name}. "
        "Point --data at the ImageNet folder, or draw a practice set with `harness toy FOLDER`."
    )


def _real_labels(root: Path) -> list[list[int]] | None:
    """ReaL labels in the order of the validation file numbers, when the file is there."""
    file = root / REAL_FILE
    if not file.is_file():
        return None
    labels = read_json(file, what="ReaL labels")
    if not (isinstance(labels, list) and all(isinstance(entry, list) for entry in labels)):
        raise InputError(f"{file} is not the ReaL label file, a JSON list with a list of labels per image.")
    return labels


def _real_of(path: str, real: list[list[int]]) -> list[int]:
    match = VAL_NUMBER.search(path)
    if match is None or not 1 <= int(match[1]) <= len(real):
        raise InputError(
            f"{REAL_FILE} goes by the original file names (ILSVRC2012_val_00000001 to {len(real):08d}); {path} is not "
            f"one. Remove {REAL_FILE} to score without ReaL labels."
        )
    return real[int(match[1]) - 1]
