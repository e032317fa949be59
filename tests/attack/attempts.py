"""Attempts in forked processes: what came of each, hangs and crashes included."""

from __future__ import annotations

import os
import pickle
import resource
import select
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from backbones.errors import InputError

LIMIT = 20.0  # seconds of an attempt; the slowest takes a fraction of one where the machine is free
MEMORY = 3 << 30  # bytes that an attempt may map beyond those of this process
HELD, CLEAN, UNEXPECTED, HANG, SILENT = "held", "clean error", "Unexpected", "hang", "silent change"
KINDS = (HELD, CLEAN, UNEXPECTED, HANG, SILENT)

Value = tuple[str, str]  # what is computed, and what says of which data it was


@dataclass(frozen=True)
class Outcome:
    """kind: one of KINDS. text: of the error; names: it has the path of a file in it."""

    kind: str
    text: str = ""
    names: bool = True


@dataclass
class Tally:
    """Counts by target, and what should not have happened."""

    counts: dict[str, Counter] = field(default_factory=dict)
    bad: list[str] = field(default_factory=list)

    def add(self, target: str, what: str, outcome: Outcome) -> None:
        self.counts.setdefault(target, Counter())[outcome.kind] += 1
        if outcome.kind not in (HELD, CLEAN) or not outcome.names:
            self.bad.append(f"{target}, {what}: {outcome.kind}: {outcome.text}")

    def table(self) -> str:
        lines = [f"{'target':<34}{'tried':>7}" + "".join(f"{kind:>15}" for kind in KINDS)]
        total = Counter()
        for counts in self.counts.values():
            total += counts
        for target, counts in [*self.counts.items(), ("all", total)]:
            numbers = "".join(f"{counts[kind]:>15,}" for kind in KINDS)
            lines.append(f"{target:<34}{sum(counts.values()):>7,}{numbers}")
        return "\n".join(lines)


def attempts(calls: Sequence[Callable[[], Value]], *, expected: Value, limit: float = LIMIT) -> Iterator[Outcome]:
    """Make each call in a process that has everything imported; one process serves for many.

    Args:
        expected: of the undamaged files; a call that computes something else must say that it is of other data.
    """
    done = 0
    while done < len(calls):
        for outcome in _in_child(calls[done:], expected, limit):
            done += 1
            yield outcome


def _in_child(calls: Sequence[Callable[[], Value]], expected: Value, limit: float) -> Iterator[Outcome]:
    """Outcomes up to the first that ends the process."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        _work(calls, expected, write_end)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as answers:
        for _ in calls:
            if not select.select([answers], [], [], limit)[0]:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                yield Outcome(HANG, f"no end in {limit:.0f} s")
                return
            try:
                yield pickle.load(answers)
            except EOFError:
                status = os.waitpid(pid, 0)[1]
                yield Outcome(UNEXPECTED, f"the process ended with status {status}")
                return
    os.waitpid(pid, 0)


def _work(calls: Sequence[Callable[[], Value]], expected: Value, write_end: int) -> None:
    try:
        quiet = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(quiet, number)
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY, mapped + MEMORY))
        with os.fdopen(write_end, "wb") as answers:
            for call in calls:
                answers.write(pickle.dumps(_outcome(call, expected)))
                answers.flush()
    finally:
        os._exit(0)


def _outcome(call: Callable[[], Value], expected: Value) -> Outcome:
    try:
        found = call()
    except InputError as error:
        return Outcome(CLEAN, str(error)[:300], names="/" in str(error))
    except (Exception, SystemExit) as error:
        place = traceback.extract_tb(sys.exc_info()[2])[-1]
        return Outcome(UNEXPECTED, f"{type(error).__name__}: {str(error)[:120]} ({place.filename}:{place.lineno})")
    if found[0] != expected[0] and found[1] == expected[1]:
        return Outcome(SILENT, f"{found[0][:100]} in place of {expected[0][:100]}")
    return Outcome(HELD)
