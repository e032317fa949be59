"""NoCaps: captions of things that COCO's captions do not name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.adapter import EVALAI_MAX_BYTES, Metric, Sample, Split
from tasks.captioning.annotations import nocaps_samples
from tasks.captioning.base import Captioning
from tasks.captioning.metric_names import METRICS
from tasks.captioning.recipes import NOCAPS_RECIPES

if TYPE_CHECKING:
    from tasks.bootstrap import Measurement

DOMAINS = ("in-domain", "near-domain", "out-domain")


class NoCaps(Captioning):
    """CIDEr and the other caption scores, over all images; CIDEr over those of each domain too.

    A domain's CIDEr takes its document frequencies from that domain's references, as when it is scored alone.
    Fine-tuning is on COCO's captions: `../coco/dataset_coco.json`, or the same file in this folder.

    Layouts: `nocaps_val_4500_captions.json` and `nocaps_test_image_info.json` with the folders `val/` and `test/`; or
    the official index files `nocaps.{val,test}.jsonl`, which are used where they are absent, with `nocaps_val_gt.json`
    for the references.
    """

    name = "nocaps"
    dataset = "NoCaps"
    citation = "Agrawal et al., nocaps: novel object captioning at scale, ICCV 2019"
    splits: Mapping[str, Split] = {
        "train": Split(size=566_747),
        "val": Split(size=4_500),
        "test": Split(size=10_600, labels=False, server="EvalAI challenge 355", largest_file=EVALAI_MAX_BYTES),
    }
    metrics = (
        *METRICS,
        *(
            Metric(name=f"CIDEr_{domain}", unit="points", source="CIDEr over the images of one domain, scored alone")
            for domain in DOMAINS
        ),
    )
    recipes = NOCAPS_RECIPES
    folder = "nocaps"

    def samples(self, root: Path, split: str) -> list[Sample]:
        self.split(split)
        return nocaps_samples(root, split)

    def hashed_inputs(self, sample: Sample, root: Path) -> Any:
        """The images of COCO by their folder and name, as COCO itself may be anywhere."""
        return {**sample.inputs, "image": "/".join(sample.inputs["image"].rsplit("/", 2)[-2:])}

    def score(
        self, predictions: Mapping[str, Mapping[str, Any]], samples: Sequence[Sample], *, labels: Any = None
    ) -> list[Measurement]:
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
