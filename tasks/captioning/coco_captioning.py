"""COCO captioning on the Karpathy split."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backbones.errors import AbsentError, InputError
from tasks.adapter import CODALAB_LARGEST, Sample, Split
from tasks.captioning.base import (
    Captioning,
    CaptioningRecipe,
    caption_sample,
    image_sample,
    indexed_captions,
    indexed_images,
    listed_images,
    referenced_images,
    references,
)
from tasks.common import deviations
from tasks.common.karpathy import COCO_FILE, read_coco

VAL_CAPTIONS = "annotations/captions_val2014.json"
TEST_IMAGES = "annotations/image_info_test2014.json"

_OFFICIAL = "unilm beit3/get_started/get_started_for_captioning.md and the code's defaults"


def _official(name: str, **numbers: Any) -> CaptioningRecipe:
    return CaptioningRecipe(
        name=f"beit3_{name}", source=_OFFICIAL, image_size=480, epochs=10, warmup_epochs=1, batch_size=256,
        weight_decay=0.05, drop_path=0.1, deviations=(*deviations.OFFICIAL, deviations.RAND_AUGMENT), **numbers,
    )  # fmt: skip


RECIPES = {
    "base": _official("base_coco_captioning", lr=4e-5, micro_batch=16),
    "base_indomain": _official("base_indomain_coco_captioning", lr=4e-5, micro_batch=16),
    "large": _official("large_coco_captioning", lr=8e-6, micro_batch=8),
    "large_indomain": _official("large_indomain_coco_captioning", lr=8e-6, micro_batch=8),
    "giant": CaptioningRecipe(
        name="beit3_giant_coco_captioning", source="arXiv 2208.10442, Table 13", image_size=392, steps=16_000,
        warmup_steps=1_600, batch_size=256, lr=8e-6, weight_decay=0.01, drop_path=0.3, mask_probability=0.6,
        drop_worst=0.0, rand_augment=False, micro_batch=2, checkpoint_activations=True,
        deviations=(
            *deviations.PAPER, "the paper states no leaving out of the worst tokens: none (--set drop_worst=0.2)",
            "the paper states no length penalty and no longest caption: 0.6 and 64 tokens as in the released code",
        ),
    ),
    "nano": CaptioningRecipe(
        name="multiway_nano_coco_captioning", source="ours, for two laptop cores and the toy data", image_size=64,
        epochs=3, warmup_epochs=1, batch_size=64, lr=1e-3, drop_path=0.0, clip_grad=3.0, rand_augment=False,
        max_tokens=64, micro_batch=64, workers=1,
    ),
}  # fmt: skip


class CocoCaptioning(Captioning):
    """BLEU, METEOR, ROUGE-L, CIDEr and SPICE on 5,000 images with five references each.

    Layouts: `dataset_coco.json` (Karpathy) with `train2014/` and `val2014/`; or the official index files
    `coco_captioning.{train,val,test}.jsonl`, which stand in where it is absent, with `coco_karpathy_{val,test}_gt.json`
    for the references, which are enough to score. The splits val2014 and test2014 are COCO's own
    (`annotations/captions_val2014.json`, `val2014/`; `annotations/image_info_test2014.json`, `test2014/`).
    """

    name = "coco_captioning"
    dataset = "COCO Captions (Karpathy split)"
    citation = "Chen et al., Microsoft COCO Captions, arXiv 1504.00325; split: Karpathy and Fei-Fei, arXiv 1412.2306"
    splits: Mapping[str, Split] = {
        "train": Split(size=566_747),
        "val": Split(size=5_000),
        "test": Split(size=5_000),
        "val2014": Split(size=40_504, optional=True),
        "test2014": Split(size=40_775, labels=False, server="COCO caption challenge", largest_file=CODALAB_LARGEST),
    }
    recipes = RECIPES
    folder = "coco"
    eval_split = "test"
    validation_split = "val"

    def samples(self, root: Path, split: str) -> list[Sample]:
        self.split(split)
        if split == "test2014":
            return listed_images(root / TEST_IMAGES, split, None, what="COCO's test2014 images")
        if split == "val2014":
            return _val2014(root)
        index, truth = root / f"coco_captioning.{split}.jsonl", root / f"coco_karpathy_{split}_gt.json"
        if (root / COCO_FILE).is_file():
            return _karpathy(root, split)
        if truth.is_file() and not index.is_file():
            return referenced_images(truth, _path_in_val2014)
        if not index.is_file():
            raise InputError(
                f"No COCO captions under {root}: neither {COCO_FILE} (Karpathy's split) nor {index.name}. Put one "
                "there, or draw a practice set with `harness toy FOLDER`."
            )
        if split == "train":
            return indexed_captions(index)
        return indexed_images(index, references(truth) if truth.is_file() else None)

    def _results_name(self, split: str) -> str:
        return f"captions_{split}"


def _val2014(root: Path) -> list[Sample]:
    file = root / VAL_CAPTIONS
    if not file.is_file():
        raise AbsentError(f"No captions of COCO's val2014: {file} is absent. Put it there to score this split.")
    return referenced_images(file, _path_in_val2014)


def _path_in_val2014(row: Mapping[str, Any]) -> str:
    """An image's path; Karpathy's val and test are of val2014 too, and their references leave the name out."""
    name = row.get("file_name", f"COCO_val2014_{row['id']:0>12}.jpg")
    return f"val2014/{name}"


def _karpathy(root: Path, split: str) -> list[Sample]:
    where = str(root / COCO_FILE)
    images = read_coco(root, split)
    if split == "train":
        return [
            caption_sample(image.id, image.path, sentence.id, sentence.text, where=where)
            for image in images
            for sentence in image.sentences
        ]
    return [
        image_sample(image.id, image.path, [sentence.text for sentence in image.sentences], where=where)
        for image in images
    ]


def training_captions(folder: Path) -> list[Sample]:
    """The training captions of a COCO folder for a task whose own folder is another: image paths are absolute."""
    places: dict[str, str] = {}  # one text for all captions of an image

    def moved(sample: Sample) -> Sample:
        image = sample.inputs["image"]
        place = places.setdefault(image, str(folder / image))
        return sample._replace(inputs={**sample.inputs, "image": place})

    return [moved(sample) for sample in CocoCaptioning().samples(folder, "train")]
