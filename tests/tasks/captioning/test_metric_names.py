from __future__ import annotations

import subprocess
import sys

from tasks.captioning.metric_names import ALL, METRICS


def test_one_primary_metric() -> None:
    assert [metric.name for metric in METRICS if metric.primary] == ["CIDEr"]
    assert ALL == ("BLEU1", "BLEU2", "BLEU3", "BLEU4", "METEOR", "ROUGE_L", "CIDEr", "SPICE")
    assert all(metric.unit == "points" and metric.source for metric in METRICS)


def test_the_list_is_cheap_to_import() -> None:
    code = "import sys, tasks.captioning.metric_names; sys.exit('numpy' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
