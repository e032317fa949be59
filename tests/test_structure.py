"""The layout: imports run downwards and without circles, and no kind of task imports another."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tasks.registry import BUILT_IN
from tests.conftest import REPOSITORY

BELOW = {
    "harness": {"harness", "tasks", "backbones", "leaderboards"},
    "tasks": {"tasks", "backbones"},
    "leaderboards": {"leaderboards", "backbones.errors", "backbones.files"},
    "backbones": {"backbones"},
}

CONTRACT = {"adapter", "recipe", "registry", "bootstrap"}  # files of tasks/ that every kind may import
SHARED = {"common", "toy"}  # folders of tasks/ that are no kind of task
PRETRAINING = "pretraining"  # no kind of task either, and it may use what all kinds share


def imported(path: Path) -> set[str]:
    """Modules of the house that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] in BELOW}


def _allowed(name: str, modules: set[str]) -> bool:
    return any(f"{name}.".startswith(f"{module}.") for module in modules)


@pytest.mark.parametrize("room", BELOW)
def test_imports_run_downwards(room: str) -> None:
    for path in (REPOSITORY / room).rglob("*.py"):
        upwards = {name for name in imported(path) if not _allowed(name, BELOW[room])}
        assert not upwards, f"{path}: {upwards}"


KINDS = sorted(
    path.parent.name
    for path in (REPOSITORY / "tasks").glob("*/dataset.py")
    if path.parent.name not in SHARED | {PRETRAINING}
)


def test_every_benchmark_belongs_to_a_kind() -> None:
    assert {target.split(".")[1] for target in BUILT_IN.values()} == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_the_same_files(kind: str) -> None:
    files = {path.stem for path in (REPOSITORY / "tasks" / kind).glob("*.py")}
    assert {"annotations", "dataset", "model", "metrics", "recipes"} <= files


@pytest.mark.parametrize("folder", [*KINDS, *sorted(SHARED), PRETRAINING])
def test_kinds_of_tasks_import_the_contract_and_common_alone(folder: str) -> None:
    allowed = CONTRACT | {folder} | ({"common"} if folder not in SHARED else set())
    if folder == PRETRAINING:  # it draws its own scenes, and asks the registry for the task whose model it tunes
        allowed |= {"toy"}
    for path in (REPOSITORY / "tasks" / folder).rglob("*.py"):
        modules = {name for name in imported(path) if name.startswith("tasks.")}
        others = {name for name in modules if name.split(".")[1] not in allowed}
        assert not others, f"{path}: {others}"


@pytest.mark.parametrize("room", [*BELOW, "tests"])
def test_docstrings_begin_with_a_verb_or_a_noun(room: str) -> None:
    for path in (REPOSITORY / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                first = (ast.get_docstring(node) or "").partition(" ")[0]
                assert first not in {"What", "Whether", "How", "Where", "Which", "So"}, f"{path}: {first} …"


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
