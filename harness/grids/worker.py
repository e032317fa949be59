"""Work of a process on one job of a grid."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness import job_process

DONE, FAILED, BUSY = 0, 1, 75  # exit statuses; 75 is EX_TEMPFAIL of sysexits.h


def work(specification: Mapping[str, Any], log: str, gpu: str | None, cores: tuple[int, ...]) -> None:
    """Carry out a job; the process ends with one of the exit statuses above.

    Args:
        log, gpu, cores: as of `job_process.enter`.
    """
    job_process.enter(Path(log), gpu, cores)
    sys.exit(status(specification, threads=len(cores)))


def status(specification: Mapping[str, Any], *, threads: int) -> int:
    """Carry out a job in this process; returns one of the exit statuses above."""
    import torch

    from harness.grids.cell import reason_of, run_cell
    from harness.workdir import BusyError

    torch.set_num_threads(threads)
    try:
        run_cell(specification)
    except BusyError as error:
        print(error, file=sys.stderr)
        return BUSY
    except Exception as error:
        traceback.print_exc()
        print(reason_of(error), file=sys.stderr)
        return FAILED
    return DONE
