"""Commands that install Python packages into the environment that runs, for messages that a user copies."""

from __future__ import annotations

import importlib.util
import json
import shlex
import shutil
import sys
from importlib import metadata
from pathlib import Path

PROJECT = "multiway-harness"
CHECKOUT = Path(__file__).resolve().parent.parent
_PIP = "-m", "pip"


def install_command(*requirements: str, replacing: tuple[str, ...] = ()) -> str:
    """A shell command that installs packages with pip, or with uv in an environment without pip.

    It names the interpreter, so it works outside an activated environment, and the versions of `constraints.txt` where
    this project runs from a checkout.

    Args:
        requirements: as pip reads them, such as `tensorboard>=2.16`.
        replacing: packages to uninstall first.
    """
    commands = [[*_installer("install"), *_constraints(), *requirements]]
    if replacing:
        commands.insert(0, [*_installer("uninstall"), *replacing])
    if not _has_pip() and shutil.which("uv") is None:
        commands.insert(0, [sys.executable, "-m", "ensurepip"])
    return " && ".join(shlex.join(command) for command in commands)


def reinstall_command() -> str:
    """A shell command that installs what this project needs and is missing."""
    return install_command(*(("-e", str(CHECKOUT)) if (CHECKOUT / "pyproject.toml").is_file() else (_source(),)))


def _source() -> str:
    """The installed project as a requirement: the wheel that it is from, where its metadata say (PEP 610)."""
    try:
        origin = metadata.distribution(PROJECT).read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        origin = None
    return f"{PROJECT} @ {json.loads(origin)['url']}" if origin else PROJECT


def _has_pip() -> bool:
    return importlib.util.find_spec("pip") is not None


def _installer(action: str) -> list[str]:
    uv = None if _has_pip() else shutil.which("uv")
    if uv:
        return [uv, "pip", action, "--python", sys.executable]
    return [sys.executable, *_PIP, action, *(["-y"] if action == "uninstall" else [])]


def _constraints() -> list[str]:
    file = CHECKOUT / "constraints.txt"
    return ["-c", str(file)] if file.is_file() else []
