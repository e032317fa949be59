"""The house: imports run downwards, and without circles."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

BELOW = {
    "harness": {"harness", "tasks", "backbones", "leaderboards"},
    "tasks": {"tasks", "backbones"},
    "leaderboards": {"leaderboards"},
    "backbones": {"backbones"},
}


def imported(path: Path) -> set[str]:
    """Modules of the house that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] in BELOW}


@pytest.mark.parametrize("room", BELOW)
def test_imports_run_downwards(room: str) -> None:
    for path in (REPOSITORY / room).rglob("*.py"):
        upwards = {name for name in imported(path) if name.split(".")[0] not in BELOW[room]}
        assert not upwards, f"{path}: {upwards}"


def test_no_circles_between_files() -> None:
    files = {}
    for room in BELOW:
        for path in (REPOSITORY / room).rglob("*.py"):
            name = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
            files[name] = path
    # A package's __init__ is its front door: files inside do not go through it.
    graph = {
        name: {other for other in imported(path) if other in files and other != name} for name, path in files.items()
    }
    graph = {name: {o for o in others if not name.startswith(o + ".")} for name, others in graph.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail, name])
        if name not in done:
            for other in graph[name]:
                visit(other, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())
