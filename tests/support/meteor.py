"""METEOR kept alive between tests: its start costs seven seconds of processor time, an answer a millisecond."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

from tasks.captioning import java


@dataclass(frozen=True)
class Answered:
    """Takes the place of the `java.Run` of a program that has ended well."""

    text: str

    def output(self) -> str:
        return self.text

    def failed(self, how: str) -> AssertionError:
        return AssertionError(f"METEOR {how}: {self.text[:200]!r}")


class KeptMeteor:
    """Takes the place of `java.running`: METEOR's requests go to one process, other tools run as they do."""

    def __init__(self) -> None:
        self._process: subprocess.Popen | None = None
        self._running: Callable[..., AbstractContextManager] = java.running

    @contextmanager
    def running(self, tool: str, arguments: Sequence[str], *, stdin: str = "", **options: object) -> Iterator[object]:
        if tool != "METEOR":
            with self._running(tool, arguments, stdin=stdin, **options) as run:
                yield run
            return
        if self._process is None:
            command = [java.find().path, *java.SETTINGS, *arguments]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        yield Answered("".join(map(self._answer, stdin.splitlines(keepends=True))))

    def _answer(self, request: str) -> str:
        """The lines that answer a line: one for SCORE, for EVAL one per image and one for all; METEOR keeps nothing."""
        self._process.stdin.write(request.encode("utf-8", "replace"))
        self._process.stdin.flush()
        count = request.count("|||") + 1 if request.startswith("EVAL") else 1
        answers = [self._process.stdout.readline() for _ in range(count)]
        assert all(answers), "METEOR ended"
        return b"".join(answers).decode("utf-8", "replace")

    def close(self) -> None:
        with ExitStack() as context:
            if self._process:
                context.enter_context(self._process)
                self._process.kill()
