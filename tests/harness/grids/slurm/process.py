"""Process of a job inside SLURM that trains nothing (see `tests.harness.grids.jobs`)."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import harness
from harness.grids.jobs import of
from tests.harness.grids.jobs import carry_out

if __name__ == "__main__":
    told = f"{harness.__file__} {os.environ['SRUN_CPUS_PER_TASK']}"
    carry_out(of(json.loads(Path(sys.argv[1]).read_text())), told=told)
