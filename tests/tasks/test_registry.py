from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import tasks
from backbones import InputError, UsageError

ADAPTER = """
    from tasks.classification.imagenet import ImageNet

    class Birds(ImageNet):
        name = "birds"
        dataset = "Birds"
"""


def package(folder: Path, code: str) -> Path:
    """An installed distribution with one entry point, as pip leaves it."""
    (folder / "bird_tasks.py").write_text(textwrap.dedent(code))
    info = folder / "bird_tasks-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bird-tasks\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[harness.tasks]\nbirds = bird_tasks:Birds\n")
    return folder


def harness(*arguments: str, path: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "harness", *arguments],
        env={"PYTHONPATH": str(path), "PATH": ""},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )


def test_an_installed_package_adds_its_task(tmp_path: Path) -> None:
    done = harness("list", path=package(tmp_path, ADAPTER))
    assert done.returncode == 0
    assert "birds" in done.stdout


@pytest.mark.spawn
def test_an_installed_package_that_fails_is_shown_with_the_reason(tmp_path: Path) -> None:
    broken = package(tmp_path, "import no_such_module")
    done = harness("list", "--json", path=broken)
    assert done.returncode == 1
    found = {task["name"]: task for task in json.loads(done.stdout)}
    assert "error" not in found["imagenet"]
    assert "ModuleNotFoundError: No module named 'no_such_module'" in found["birds"]["error"]
    done = harness("check", "birds", "--data", ".", path=broken)
    assert done.returncode == 1
    assert "no_such_module" in done.stderr


def test_a_task_by_path(tmp_path: Path) -> None:
    file = tmp_path / "birds.py"
    file.write_text(textwrap.dedent(ADAPTER))
    assert tasks.get(str(file)).name == "birds"
    assert tasks.get(f"{file}:Birds").name == "birds"
    with pytest.raises(InputError, match="found: none"):
        tasks.get(f"{file}:Fish")
    with pytest.raises(InputError, match="No task file"):
        tasks.get(str(tmp_path / "absent.py"))


def test_an_incomplete_adapter_is_told_what_it_lacks(tmp_path: Path) -> None:
    file = tmp_path / "half.py"
    file.write_text("from tasks import TaskAdapter\n\nclass Half(TaskAdapter):\n    name = 'half'\n")
    with pytest.raises(InputError, match="lacks check, eval_set, model, samples, score, train_set"):
        tasks.get(str(file))


@pytest.mark.parametrize("line", ["import sys; sys.exit(0)", "raise SystemExit", "exit(3)"])
def test_a_task_file_that_ends_the_program_is_an_error(line: str, tmp_path: Path) -> None:
    file = tmp_path / "ends.py"
    file.write_text(line)
    with pytest.raises(InputError, match=r"ends\.py cannot be imported: SystemExit"):
        tasks.get(str(file))


def test_an_unknown_task_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="Did you mean imagenet"):
        tasks.get("imagnet")
