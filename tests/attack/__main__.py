"""Attack with random mutations for some minutes and print the table: python -m tests.attack --minutes 15."""

from __future__ import annotations

import argparse
import itertools
import sys
import time

import torch

from tests.attack.attempts import Tally
from tests.attack.fuzz import attack
from tests.attack.targets import TARGETS

AT_ONCE = 25  # mutations of a target in a row


def main() -> int:
    """Attack; returns 1 where something was neither held nor told cleanly."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--seed", type=int, default=None, help="of the first mutation (default: of the clock)")
    parser.add_argument("--only", default="", help="part of the targets' names")
    args = parser.parse_args()
    torch.set_num_threads(1)
    first = args.seed if args.seed is not None else int(time.time()) * 1000
    tally, end = Tally(), time.monotonic() + 60 * args.minutes
    chosen = [target for target in TARGETS if args.only in target.name]
    for begin in itertools.count(first, AT_ONCE):
        for target in chosen:
            if time.monotonic() < end:
                attack(target, range(begin, begin + AT_ONCE), tally)
        if time.monotonic() >= end:
            break
    print(tally.table())
    print("\n".join(tally.bad))
    return 1 if tally.bad else 0


if __name__ == "__main__":
    sys.exit(main())
