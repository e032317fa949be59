"""Faults of PyTorch's loader processes that come from limits of the machine, in words. Without PyTorch."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from backbones.errors import InputError

SHARED_MEMORY = "/dev/shm"
_SIGNS = ("insufficient shared memory", "unable to write to file </torch", "shared memory object", "Bus error")
_NO_SPACE = (errno.ENOSPC, errno.EROFS, errno.EACCES)


def explained(error: BaseException) -> str:
    """The paragraph about an error of a loader process; empty about any other error."""
    lines = str(error).strip().splitlines() or [""]
    if not isinstance(error, RuntimeError):
        return ""
    if any(sign in line for line in lines for sign in _SIGNS):
        return (
            f"The shared memory {SHARED_MEMORY} is too small or cannot be written ({lines[-1]}). Make it larger "
            "(docker run --shm-size=8g), or load without processes of their own: --set workers=0."
        )
    if "DataLoader worker (pid" in lines[0]:
        return (
            f"A loader process was ended from outside ({lines[0]}), as a rule by the system for want of memory. Use "
            "fewer of them (--set workers=…, 0 for none) or a machine with more memory, and run the same command again."
        )
    return ""


@contextlib.contextmanager
def loader_faults() -> Iterator[None]:
    """Start loader processes or take a batch from them.

    Raises:
        InputError: one could not be started, or was ended; with the option that helps.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        raise InputError(explained(RuntimeError(f"shared memory object: {error.strerror}"))) from error
    except RuntimeError as error:
        if text := explained(error):
            raise InputError(text) from error
        raise
