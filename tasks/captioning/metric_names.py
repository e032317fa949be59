"""The metrics of captioning, for the lists of adapters."""

from __future__ import annotations

from tasks.adapter import Metric

_TOOL = "as pycocoevalcap computes it on PTB tokens"

METRICS = (
    *(
        Metric(
            name=f"BLEU{order}", unit="points",
            source=f"Papineni et al., ACL 2002, n-grams up to {order} over the corpus, {_TOOL} (closest length)",
        )
        for order in (1, 2, 3, 4)
    ),
    Metric(name="METEOR", unit="points", source=f"Denkowski and Lavie, WMT 2014, METEOR 1.5 over the corpus, {_TOOL}"),
    Metric(name="ROUGE_L", unit="points", source=f"Lin, ACL 2004 workshop, beta 1.2, mean over images, {_TOOL}"),
    Metric(
        name="CIDEr", unit="points", primary=True,
        source=f"Vedantam et al., arXiv 1411.5726, CIDEr-D, mean over images, document frequencies from the references "
        f"of the images scored, {_TOOL}",
    ),
    Metric(name="SPICE", unit="points", source=f"Anderson et al., ECCV 2016, mean over images, {_TOOL}"),
)  # fmt: skip
ALL = tuple(metric.name for metric in METRICS)
