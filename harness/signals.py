"""Ctrl-C and SIGTERM: the command ends within two seconds, wherever it is, with one line and status 130 or 143."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType

GRACE = 1.5  # seconds for an orderly end: a checkpoint that is being written, a folder that is unlocked
SIGNALS = {signal.SIGINT: "Interrupted", signal.SIGTERM: "Ended by SIGTERM"}

_received: int | None = None
_raised = False


def install() -> None:
    """Handle the signals in this process; its workers ignore the one and die of the other.

    An exception that a handler raises may be swallowed (in a destructor, or by a library), and a handler does not run
    while PyTorch waits for other processes. A thread that reads what signals wrote ends the process all the same.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    for number in SIGNALS:
        signal.signal(number, _raise)
    hook = sys.unraisablehook
    sys.unraisablehook = lambda told: None if _received else hook(told)
    owner = os.getpid()
    threading.Thread(target=_watch, args=(read_end, owner), daemon=True).start()


def received() -> int | None:
    """The first of the signals that this process got, None so far."""
    return _received


def text(number: int) -> str:
    """The line about a signal."""
    return f"{SIGNALS[signal.Signals(number)]}. The same command goes on where it stopped."


def end(number: int, *, told: bool) -> None:
    """End this process at once, as one that the signal killed; what it has written is whole."""
    if told:
        os.write(2, f"harness: {text(number)}\n".encode())
    os._exit(128 + number)


def _raise(number: int, frame: FrameType | None) -> None:
    global _received, _raised
    _received = _received or number
    if not _raised:  # a second one would only interrupt the orderly end
        _raised = True
        raise KeyboardInterrupt


def _watch(read_end: int, owner: int) -> None:
    global _received
    while True:
        numbers = [number for number in os.read(read_end, 64) if number in SIGNALS]
        if numbers and os.getpid() == owner:
            _received = _received or numbers[0]  # a part of the program may have a handler of its own
            time.sleep(GRACE)
            end(numbers[0], told=True)
