"""A `harness` command whose second process sees another state of the output folder than the first, under torchrun.

    python -m tests.harness.own_view late|early FOLDER run imagenet …

"late": it does not see a file under FOLDER until some seconds after it has first asked for it, as through the cache of
a network file system. "early": it sees files that are not there, as if it asked a moment after they were written.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from harness import cli

LATE = 2.0  # seconds
EARLY = ("final.safetensors", "last.pth", "val.jsonl", "val.json", "val")

_stat_says = {name: getattr(Path, name) for name in ("exists", "is_file", "is_dir")}
_asked: dict[Path, float] = {}


def see_otherwise(view: str, folder: Path) -> None:
    def seen(path: Path, name: str) -> bool:
        if folder not in path.parents or path.suffix == ".partial":
            return _stat_says[name](path)
        if view == "early":
            return path.name in EARLY or _stat_says[name](path)
        since = time.monotonic() - _asked.setdefault(path, time.monotonic())
        return since > LATE and _stat_says[name](path)

    for name in _stat_says:
        setattr(Path, name, lambda path, name=name: seen(path, name))


if __name__ == "__main__":
    if os.environ["RANK"] == "1":
        see_otherwise(sys.argv[1], Path(sys.argv[2]))
    sys.argv[1:] = sys.argv[3:]
    cli.entry()
