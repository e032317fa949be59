"""A finding and an error of the main process, as each process of a group has them: `python -m … ` under torchrun."""

from __future__ import annotations

from backbones.errors import InputError, UsageError
from harness import distributed


def fail() -> int:
    raise UsageError(f"found by {distributed.rank()}")


if __name__ == "__main__":
    distributed.start()
    found = distributed.decided(distributed.rank)
    try:
        distributed.decided(fail)
    except InputError as error:
        print(found, type(error).__name__, error)
    distributed.end()
