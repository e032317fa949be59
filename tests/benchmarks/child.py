"""Cost of a command, measured from a small process in between.

Linux counts the memory of the process that a command was forked from towards the command's own peak; started from here
that is next to nothing.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Usage:
    """A command's answer, and what it took."""

    output: str  # standard output
    seconds: float
    processor: float  # seconds
    peak: int  # bytes of resident memory


def run(command: Sequence[str]) -> Usage:
    """Run a command to its end.

    Raises:
        SystemExit: it ended with another status than 0.
    """
    between = [sys.executable, "-m", __name__, *command]
    done = subprocess.run(between, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with status {done.returncode}.")
    return Usage(**json.loads(done.stdout))


def _between(command: Sequence[str]) -> int:
    began = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    seconds = time.perf_counter() - began
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    taken = Usage(done.stdout, seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)
    print(json.dumps(asdict(taken)))
    return done.returncode


if __name__ == "__main__":
    sys.exit(_between(sys.argv[1:]))
