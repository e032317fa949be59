"""Run the `harness` command as `python -m harness`."""

import sys
from pathlib import Path

# `python -m` puts the current folder first on the path: a `tasks/` or `backbones.py` there would hide this project's.
if not sys.flags.safe_path and Path(sys.path[0]).resolve() != Path(__file__).resolve().parent.parent:
    del sys.path[0]

from harness.cli import entry

entry()
