"""Count how often each process of a group reads samples that they share, as JSON: `python -m …` under torchrun."""

from __future__ import annotations

import json

from harness import distributed
from harness.node_samples import once_per_node
from tasks.adapter import Sample

SAMPLES = [Sample(str(n), {"image": f"{n}.jpg", "classes": ("a", "b")}, {"label": n % 2}) for n in range(5)]


if __name__ == "__main__":
    distributed.start()
    calls = []
    samples = once_per_node(lambda: calls.append(1) or SAMPLES)
    print(json.dumps({"reads": len(calls), "right": list(samples) == SAMPLES}))
    distributed.end()
