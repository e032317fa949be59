"""Facts about the registered tasks, for tables and verdicts in `leaderboards`."""

from __future__ import annotations

import tasks
from backbones.errors import InputError
from leaderboards.comparable import Benchmarks


def facts() -> Benchmarks:
    """Names of data sets, official sizes, test servers and metric versions of every task that can be imported."""
    datasets, sizes, servers, versions = {}, {}, {}, {}
    for name in tasks.names():
        try:
            adapter = tasks.get(name)
        except InputError:  # a broken third-party task; `harness list tasks` says why
            continue
        datasets[name] = adapter.dataset
        sizes |= {(name, split): own.size for split, own in adapter.splits.items() if own.size is not None}
        servers |= {(name, split): own.server for split, own in adapter.splits.items() if not own.labels}
        versions |= {(name, metric.name): metric.version for metric in adapter.metrics}
    return Benchmarks(datasets=datasets, sizes=sizes, servers=servers, versions=versions)
