"""ImageNet-1K classification, and any other set of class folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbones.bundled import Stage
from backbones.errors import UsageError
from tasks.adapter import Finding, Metric, Pass, Progress, Sample, Split, TaskAdapter, TaskContext
from tasks.classification.recipes import RECIPES, ImageNetRecipe
from tasks.common.checking import check_splits, compared
from tasks.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.data import Dataset

    from tasks.bootstrap import Measurement
    from tasks.classification.dual_encoder import NameClassifier
    from tasks.classification.model import ImageClassifier
    from tasks.common.packing import Packed


class ImageNet(TaskAdapter):
    """Top-1 and top-5 accuracy, and ReaL accuracy when `real.json` is in the data folder.

    Recipes with a linear head are the official code's; `…_names` are the paper's, which retrieve the class names with
    two encoders: after a stage on ImageNet-21K (`…_names_21k`, --data a folder of its classes), or with contrastively
    pretrained weights as they are (--set epochs=0).

    Layouts: `train/<class>/*` and `val/<class>/*` (classes in sorted order), or the official
    `imagenet.train.index.jsonl` and `imagenet.val.index.jsonl` beside them, which win when present; or shards
    `train-*.tar` and `val-*.tar` with `classes.txt`, here or at an address (`tasks.common.shards`). A sample's
    id is its image path relative to the data folder, the same in all layouts.
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
    prediction_forms = '.jsonl: {"id": "val/CLASS/IMAGE.JPEG", "top": [5 class ids, best first]} a line'

    def check(self, root: Path, *, decode: bool, progress: Progress) -> list[Finding]:
        from tasks.classification.annotations import REAL_FILE

        def describe(split: str, samples: Sequence[Sample]) -> str:
            images = compared(len(samples), "images", self.splits[split].size)
            return f"{images}, {len(self.labels(root))} classes"

        findings = check_splits(
            self,
            root,
            describe=describe,
            images=lambda sample: [sample.inputs],
            decode=decode,
            progress=progress,
        )
        has_real = (root / REAL_FILE).is_file()
        real = "found" if has_real else f"no {REAL_FILE}, so no real_top1"
        findings.append(Finding(True, f"ReaL labels: {real}", absent=not has_real))
        return findings

    def samples(self, root: Path, split: str) -> Packed:
        from tasks.classification.annotations import read_samples

        self.split(split)
        return read_samples(root, split)

    def hashed_inputs(self, sample: Sample, root: Path) -> str:
        """The image path of class folders, for an image in a shard too."""
        from tasks.common.shards import file_of

        return sample.inputs if file_of(sample.inputs) == sample.inputs else sample.id

    def labels(self, root: Path) -> list[str]:
        """Class folder names, in the order of their ids."""
        from tasks.classification.annotations import class_names

        return class_names(root)

    def train_set(self, samples: Sequence[Sample], context: TaskContext) -> Dataset:
        from timm.data import create_transform

        from tasks.classification.dataset import ClassificationDataset

        recipe = context.recipe
        mean, std = _statistics(recipe)
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
            mean=mean,
            std=std,
        )
        names = [name[0] for name in _name_ids(context)] if recipe.head == "names" else None
        return ClassificationDataset(samples, root=context.root, transform=transform, names=names)

    def eval_set(self, samples: Sequence[Sample], context: TaskContext) -> Dataset:
        from tasks.classification.dataset import ClassificationDataset
        from tasks.common.images import center_crop

        recipe = context.recipe
        mean, std = _statistics(recipe)
        transform = center_crop(recipe.image_size, crop_pct=recipe.crop_pct, mean=mean, std=std)
        return ClassificationDataset(samples, root=context.root, transform=transform)

    def passes(self, recipe: Recipe) -> Sequence[Pass] | None:
        return None if recipe.head == "names" else (Pass(image=True),)

    def model(self, backbone: nn.Module, context: TaskContext) -> ImageClassifier | NameClassifier:
        from timm.data import Mixup

        from tasks.classification.dual_encoder import NameClassifier
        from tasks.classification.model import ImageClassifier

        recipe = context.recipe
        if recipe.head == "names":
            return NameClassifier(backbone, names=_name_ids(context), label_smoothing=recipe.label_smoothing)
        classes = len(context.labels)
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

    def backbone_options(self, recipe: ImageNetRecipe, *, layers: int) -> dict[str, Any]:
        return {"final_norm": recipe.head == "names"}

    def reads_text(self, recipe: ImageNetRecipe) -> bool:
        return recipe.head == "names"

    def begins_with(self, recipe: ImageNetRecipe) -> Stage:
        return "contrastive" if recipe.head == "names" else "masked"

    def score(
        self, predictions: Mapping[str, Mapping[str, Any]], samples: Sequence[Sample], *, labels: Any = None
    ) -> list[Measurement]:
        from tasks.classification.metrics import measure

        return measure(predictions, samples)


def _statistics(recipe: ImageNetRecipe) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the channels: ImageNet's in the official code, pretraining's for class names."""
    from tasks.common.images import HALF, IMAGENET_MEAN, IMAGENET_STD

    return (HALF, HALF) if recipe.head == "names" else (IMAGENET_MEAN, IMAGENET_STD)


def _name_ids(context: TaskContext) -> list[list[Tensor]]:
    """Token ids of the prompts of each class: [classes][prompts], int64 [length]."""
    from tasks.classification.names import prompts, texts
    from tasks.common.text import TextField

    field = TextField(tokenizer=context.tokenizer, length=context.recipe.max_tokens)
    templates = prompts(context.recipe.prompt)
    return [
        [field(template.format(text), of=f"class {name}") for template in templates]
        for name, text in zip(context.labels, texts(context.labels), strict=True)
    ]
