"""NoCaps: captions of things that COCO's captions do not name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbones.errors import InputError
from tasks.adapter import EVALAI_LARGEST, Metric, Sample, Split
from tasks.captioning import coco_captioning
from tasks.captioning.base import Captioning, indexed_images, listed_images, references
from tasks.captioning.coco_captioning import training_captions
from tasks.captioning.metric_names import METRICS
from tasks.common.karpathy import COCO_FILE

if TYPE_CHECKING:
    from tasks.bootstrap import Measurement

FILES = {"val": "nocaps_val_4500_captions.json", "test": "nocaps_test_image_info.json"}
DOMAINS = ("in-domain", "near-domain", "out-domain")

# All but base and base_indomain (1e-5) are fine-tuned as for COCO.
_GIANT = coco_captioning.RECIPES["giant"]
_OWN = {
    "base": {"lr": 1e-5},
    "base_indomain": {"lr": 1e-5},
    "giant": {
        "deviations": (*_GIANT.deviations, "the paper states nothing for NoCaps: its numbers of COCO captioning")
    },
}
RECIPES = {
    size: replace(recipe, name=recipe.name.replace("coco_captioning", "nocaps"), **_OWN.get(size, {}))
    for size, recipe in coco_captioning.RECIPES.items()
}


class NoCaps(Captioning):
    """CIDEr and the other caption scores, over all images; CIDEr over those of each domain too.

    A domain's CIDEr takes its document frequencies from that domain's references, as when it is scored alone.
    Fine-tuning is on COCO's captions: `../coco/dataset_coco.json`, or the same file in this folder.

    Layouts: `nocaps_val_4500_captions.json` and `nocaps_test_image_info.json` with the folders `val/` and `test/`; or
    the official index files `nocaps.{val,test}.jsonl`, which stand in where they are absent, with `nocaps_val_gt.json`
    for the references.
    """

    name = "nocaps"
    dataset = "NoCaps"
    citation = "Agrawal et al., nocaps: novel object captioning at scale, ICCV 2019"
    splits: Mapping[str, Split] = {
        "train": Split(size=566_747),
        "val": Split(size=4_500),
        "test": Split(size=10_600, labels=False, server="EvalAI challenge 355", largest_file=EVALAI_LARGEST),
    }
    metrics = (
        *METRICS,
        *(
            Metric(name=f"CIDEr_{domain}", unit="points", source="CIDEr over the images of one domain, scored alone")
            for domain in DOMAINS
        ),
    )
    recipes = RECIPES
    folder = "nocaps"

    def samples(self, root: Path, split: str) -> list[Sample]:
        self.split(split)
        if split == "train":
            return _training(root)
        file, index = root / FILES[split], root / f"nocaps.{split}.jsonl"
        if file.is_file():
            return listed_images(file, split, references(file) if split == "val" else None, what=f"NoCaps {split}")
        if not index.is_file():
            raise InputError(
                f"No NoCaps {split} images under {root}: neither {file.name} nor {index.name}. Put one there, or draw "
                "a practice set with `harness toy FOLDER`."
            )
        truth = root / "nocaps_val_gt.json"
        return indexed_images(index, references(truth) if split == "val" and truth.is_file() else None)

    def hashed_inputs(self, sample: Sample, root: Path) -> Any:
        """The images of COCO by their folder and name, as COCO itself may lie anywhere."""
        return {**sample.inputs, "image": "/".join(sample.inputs["image"].rsplit("/", 2)[-2:])}

    def score(self, predictions: Mapping[str, Mapping[str, Any]], samples: Sequence[Sample]) -> list[Measurement]:
        from tasks.captioning.metrics import measure

        captions = self._captions(predictions, samples)
        measurements = measure(captions)
        for domain in DOMAINS:
            of_domain = [n for n, sample in enumerate(samples) if sample.annotation.get("domain") == domain]
            if of_domain:
                (cider,) = measure(captions.subset(of_domain), metrics=("CIDEr",))
                measurements.append(replace(cider, metric=f"CIDEr_{domain}"))
        return measurements

    def _results_name(self, split: str) -> str:
        return f"nocaps_{split}"


def _training(root: Path) -> list[Sample]:
    for folder in (root, root.parent / "coco"):
        if (folder / COCO_FILE).is_file() or (folder / "coco_captioning.train.jsonl").is_file():
            return training_captions(folder)
    raise InputError(
        f"NoCaps fine-tunes on COCO's captions, and there are none: neither {root.parent / 'coco' / COCO_FILE} nor "
        f"{root / COCO_FILE}. Put COCO beside the NoCaps folder, or predict with weights that are fine-tuned already."
    )
