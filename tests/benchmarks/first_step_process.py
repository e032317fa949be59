"""One process of a run up to its first step: python first_step_process.py TASK DATA WORKERS [field=value …]

Prints what it took as JSON. Also runs with older versions of the package, which PYTHONPATH names.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HELD = ("samples", "_samples", "_paths", "_fields")  # what data sets hold their samples in


def memory(field: str) -> float:
    """MiB of this process: "Pss" (what others have mapped too is divided), or what it has alone."""
    names = {"Pss": ("Pss:",), "Private": ("Private_Clean:", "Private_Dirty:")}[field]
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(names)) / 1024


def touch(value: Any) -> None:
    """Look at everything in a value, as making an item of it does."""
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return
    for part in value:
        touch(part)


def worker(held: list[Any]) -> dict[str, float]:
    """Memory that a forked process has alone after it has read every sample, beyond what it had at first."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        # As PyTorch's workers: the collector's next run would write to every object that it tracks.
        gc.disable()
        before, began = memory("Private"), time.monotonic()
        for samples in held:
            for index in range(len(samples)):
                touch(samples[index])
        told = {"worker MiB": memory("Private") - before, "worker seconds": time.monotonic() - began}
        os.write(write, json.dumps(told).encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    return json.loads(os.read(read, 10_000))


def main(task: str, data: str, workers: int, *changes: str) -> dict[str, float]:
    from harness import distributed, provenance
    from harness.experiment import plan

    distributed.start()
    experiment = plan(task, backbone="multiway_nano", data=data, out="unused", changes=changes)
    _import_the_rest(task)
    at_first, highest, began = memory("Pss"), _highest(), time.monotonic()
    adapter = experiment.adapter
    split = experiment.splits[0] if hasattr(experiment, "splits") else experiment.split  # older versions
    train, test = experiment.samples(adapter.train_split), experiment.samples(split)
    for samples in (train, test):
        _hash(provenance, experiment, samples)
    if hasattr(adapter, "labels"):  # older versions read them where they are needed
        adapter.labels(experiment.data)
    context = experiment.context if hasattr(experiment, "context") else experiment.setting
    items = adapter.train_set(train, context)
    seconds = time.monotonic() - began
    distributed.barrier()
    added = memory("Pss") - at_first
    peak = _highest() - highest
    held = [getattr(items, name) for name in HELD if hasattr(items, name)]
    found = {"seconds": seconds, "MiB": added, "peak MiB": peak}
    if workers:
        found |= worker(held)
    distributed.barrier()
    distributed.stop()
    return found


def _highest() -> float:
    """The most MiB that this process has had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _import_the_rest(task: str) -> None:
    """Load everything that a run has in memory whatever its data."""
    import timm.data  # noqa: F401

    if task == "coco_detection":
        from backbones.operators import provide

        provide()
        import mmdet.datasets.transforms  # noqa: F401


def _hash(provenance: Any, experiment: Any, samples: Any) -> None:
    from harness import distributed

    if hasattr(distributed, "decided"):
        distributed.decided(lambda: provenance.data_sha256(experiment.adapter, samples, experiment.data))
    else:  # older versions, where every process did
        provenance.data_sha256(samples)


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), *sys.argv[4:])))
