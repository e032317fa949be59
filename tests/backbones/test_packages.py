"""Commands that messages print."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from backbones import packages
from tests.conftest import REPOSITORY

CONSTRAINTS = str(REPOSITORY / "constraints.txt")


def test_pip_of_the_running_interpreter_installs_with_the_constraints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: "pip")
    assert shlex.split(packages.install_command("tensorboard>=2.16")) == [
        sys.executable, "-m", "pip", "install", "-c", CONSTRAINTS, "tensorboard>=2.16",
    ]  # fmt: skip


def test_uv_serves_an_environment_without_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(packages.shutil, "which", lambda name: "/bin/uv")
    command = packages.install_command("b", replacing=("a",))
    python = shlex.quote(sys.executable)
    assert command.startswith(f"/bin/uv pip uninstall --python {python} a && /bin/uv pip install --python {python} ")


def test_pip_is_installed_where_there_is_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(packages.shutil, "which", lambda name: None)
    first, second = packages.install_command("b").split(" && ")
    assert shlex.split(first) == [sys.executable, "-m", "ensurepip"]
    assert shlex.split(second)[:4] == [sys.executable, "-m", "pip", "install"]


def test_the_project_is_installed_from_its_checkout_or_its_wheel(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert packages.reinstall_command().endswith(f" -e {shlex.quote(str(REPOSITORY))}")
    monkeypatch.setattr(packages, "CHECKOUT", tmp_path)

    class Wheel:
        def read_text(self, name: str) -> str:
            return '{"url": "file:///tmp/multiway_harness-0.1.0-py3-none-any.whl", "archive_info": {}}'

    monkeypatch.setattr(packages.metadata, "distribution", lambda name: Wheel())
    assert shlex.split(packages.reinstall_command())[-1] == (
        "multiway-harness @ file:///tmp/multiway_harness-0.1.0-py3-none-any.whl"
    )
    assert "constraints" not in packages.reinstall_command()
