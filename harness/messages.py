"""Paragraphs about errors, and the whole command that fixes one."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from backbones.errors import InputError
from harness import loader_faults
from leaderboards.rows import ResultsError


def error_text(error: Exception, args: Namespace, *, task: str | None = None) -> str:
    """The paragraph for a user about an error.

    Args:
        args: of the command, whose words are in `args.words`.
        task: the one that the error is about, where the command has several.
    """
    if isinstance(error, (InputError, ResultsError)):
        command = _repaired(args, getattr(error, "options", ()), task)
        return f"{error} The whole command: {command}" if command else str(error)
    if type(error).__name__ == "OutOfMemoryError":
        return (
            "The GPU's memory is used up. Use smaller pieces (--set micro_batch=…, the effective batch stays) or "
            "--set checkpoint_activations=true, and run the same command again."
        )
    if text := loader_faults.explained(error):  # PyTorch raises it wherever the main process is
        return text
    if distributed_elsewhere(error):
        return "Another process of this run ended; what it said tells why."
    first = str(error).strip().splitlines()[0] if str(error).strip() else ""
    return (
        f"Unexpected {type(error).__name__}: {first} Run again with --debug for the traceback; nothing written is lost."
    )


def distributed_elsewhere(error: Exception) -> bool:
    """Recognise the error of a process whose partner is gone."""
    text = str(error)
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and any(
        sign in text for sign in ("Connection closed by peer", "Connection reset by peer", "NCCL", "[gloo]")
    )


def _repaired(args: Namespace, options: Sequence[str], task: str | None) -> str:
    """The command with further options, for one task of several; empty where it cannot be written down."""
    words, others = list(args.words), set(getattr(args, "tasks", ())) - {task} if task else set()
    if not options or "WORLD_SIZE" in os.environ or any(words.count(other) != 1 for other in others):
        return ""
    return shlex.join([*program(), *(word for word in words if word not in others), *options])


def program() -> list[str]:
    """The words that start this program as it was started."""
    started = Path(sys.argv[0])
    if started.name == "__main__.py":
        return [sys.executable, "-m", "harness"]
    on_path = started.name != "harness" or shutil.which("harness") == str(started)
    return ["harness"] if on_path else [str(started)]
