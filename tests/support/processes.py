"""Processes of their own for tests, forked from one that has imported PyTorch and the harness.

A fresh interpreter spends seconds on these imports before it does any work; a fork starts in a tenth of a second. A
forked command has its own process group, environment, working directory, standard streams and exit status, as one that
a shell or torchrun starts. Tests about starting itself (imports, torchrun, the console script) use `subprocess`.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import wait
from multiprocessing.util import get_temp_dir
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
# One thread each: the tests are about results, and small products only get slower with more.
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}

_folder = get_temp_dir()  # now, before a test moves the folder for temporary files
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.support.preloaded"])


class Started:
    """A running `python -m MODULE ARGUMENTS…`; with `processes`, that many of one group, as torchrun starts them."""

    def __init__(
        self,
        module: str,
        *arguments: object,
        processes: int = 0,
        environment: Mapping[str, str] = ENVIRONMENT,
        folder: Path = REPOSITORY,
    ) -> None:
        self.args = [module, *map(str, arguments)]
        self._files = tempfile.TemporaryDirectory(dir=_folder)
        self._members = []
        port = free_port()
        for rank in range(processes or 1):
            group = _group(rank, processes, port) if processes else {}
            streams = [f"{self._files.name}/{name}.{rank}" for name in ("out", "err")]
            call = (self.args, {**environment, **group}, str(folder), streams)
            self._members.append(CONTEXT.Process(target=_become, args=call))
            self._members[-1].start()

    def poll(self) -> int | None:
        """The exit status, None while a process runs."""
        statuses = [member.exitcode for member in self._members]
        return None if None in statuses else next(filter(None, statuses), 0)

    def running(self) -> bool:
        """Check for a process that has not ended."""
        return any(member.exitcode is None for member in self._members)

    def errors(self) -> str:
        """Standard error so far, of all processes."""
        return "".join(path.read_text() for path in sorted(Path(self._files.name).glob("err.*")))

    @property
    def pid(self) -> int:
        """Of the process, the first one of a group."""
        return self._members[0].pid

    def kill(self) -> None:
        """Kill -9 every process, and those that they have started."""
        for member in self._members:
            if member.exitcode is None:
                try:
                    os.killpg(member.pid, signal.SIGKILL)
                except ProcessLookupError:  # it has no group of its own yet
                    member.kill()
            member.join()

    def wait(self, *, timeout: float = 300) -> subprocess.CompletedProcess:
        """Wait for all processes. When one fails, the others are killed and its status is returned, as torchrun does.

        Raises:
            subprocess.TimeoutExpired: not done after `timeout` seconds; all are killed.
        """
        deadline = time.monotonic() + timeout
        try:
            while (status := self._status()) is None:
                if time.monotonic() > deadline:
                    raise subprocess.TimeoutExpired(self.args, timeout)
                wait([member.sentinel for member in self._members if member.exitcode is None], timeout=1)
        finally:
            self.kill()
        out, err = (
            "".join(path.read_text() for path in sorted(Path(self._files.name).glob(f"{name}.*")))
            for name in ("out", "err")
        )
        self._files.cleanup()
        return subprocess.CompletedProcess(self.args, status, out, err)

    def _status(self) -> int | None:
        failed = [member.exitcode for member in self._members if member.exitcode]
        return failed[0] if failed else self.poll()


def run(module: str, *arguments: object, timeout: float = 300, **options) -> subprocess.CompletedProcess:
    """Run `python -m MODULE ARGUMENTS…` to its end; options as of `Started`."""
    return Started(module, *arguments, **options).wait(timeout=timeout)


def run_command(
    command: Sequence[str], *, cwd: Path = REPOSITORY, check: bool = False, **_: object
) -> subprocess.CompletedProcess:
    """Fork what `subprocess.run` would start, its output captured as text.

    Args:
        command: `[sys.executable, "-m", MODULE, …]`, where torchrun's module is followed by its options, `-m` and
            the module that it starts.
    """
    assert list(command[:2]) == [sys.executable, "-m"], command
    arguments, count = list(command[2:]), 0
    if arguments[0] == "torch.distributed.run":
        options, arguments = arguments[: arguments.index("-m")], arguments[arguments.index("-m") + 1 :]
        (count,) = (int(option.partition("=")[2]) for option in options if option.startswith("--nproc-per-node="))
    done = run(*arguments, folder=cwd, processes=count)
    if check:
        done.check_returncode()
    return done


class Popen:
    """A fork in place of the `subprocess.Popen` of a script in this repository."""

    returncode: int | None = None

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str], **_: object) -> None:
        script = Path(command[1]).relative_to(REPOSITORY).with_suffix("")
        self._started = Started(".".join(script.parts), *command[2:], environment=env)

    def communicate(self) -> tuple[bytes, None]:
        done = self._started.wait()
        self.returncode = done.returncode
        return done.stdout.encode(), None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _group(rank: int, processes: int, port: int) -> dict[str, str]:
    """The environment that torchrun gives to one of the processes of a single node."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def _become(args: list[str], environment: dict[str, str], folder: str, streams: list[str]) -> None:
    """Become the command, in the forked process."""
    os.setpgrp()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, path in enumerate(streams, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # to be found anew: TMPDIR may differ
    os.chdir(folder)
    sys.path.insert(0, folder)
    sys.argv = list(args)
    faulthandler.enable()  # on what is now standard error: where a process was when it died of a signal
    runpy.run_module(args[0], run_name="__main__", alter_sys=True)
