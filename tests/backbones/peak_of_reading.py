"""KiB by which a second weights file raises the process's peak memory: `python -m … SMALL LARGE`."""

from __future__ import annotations

import resource
import sys

from backbones import weights


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    small = weights.read(sys.argv[1])
    before = peak()
    weights.read(sys.argv[2])["encoder.weight"].sum()
    print(peak() - before)
