"""A process of a job inside SLURM, alone or one of a group that torchrun starts: `python -m` this module, FILE."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from harness import cpu_runtime, distributed, job_process, signals
from harness.grids import worker


def main(file: Path) -> int:
    """Carry out the specification in a file; returns an exit status of `harness.grids.worker`."""
    job_process.end_with_parent()
    distributed.start()
    specification = json.loads(file.read_text(encoding="utf-8"))
    return worker.status(specification, threads=int(os.environ["OMP_NUM_THREADS"]))


if __name__ == "__main__":
    signals.install()
    cpu_runtime.prepare()
    distributed.end(main(Path(sys.argv[1])))
