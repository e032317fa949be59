"""Look into data folders before any training: `harness.check`. Nothing here imports PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.experiment import require_folder
from harness.progress import track
from tasks import registry
from tasks.adapter import Finding
from tasks.common.reading import parsed_once


def check(
    tasks: str | Sequence[str], *, data: str | Path, split: str | Sequence[str] | None = None, decode: bool = False
) -> dict[str, list[Finding]]:
    """Findings about each task's data folder, by task.

    Args:
        split: one or several to look at; all of a task's when not given.
        decode: open every image too.

    Raises:
        UsageError: unknown task or split.
        InputError: there is no folder `data`.
    """
    names = [tasks] if isinstance(tasks, str) else list(tasks)
    adapters = {name: registry.get(name) for name in names}
    if split is not None:
        splits = [split] if isinstance(split, str) else list(split)
        adapters = {name: adapter.only(splits) for name, adapter in adapters.items()}
    require_folder(Path(data))
    findings = {}
    for name, adapter in adapters.items():
        with parsed_once():
            findings[name] = adapter.check(adapter.data_folder(Path(data)), decode=decode, progress=track)
    return findings
