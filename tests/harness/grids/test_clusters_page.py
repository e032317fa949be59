"""The page about clusters: its commands and its programs are of this version."""

from __future__ import annotations

import ast
import re

import pytest
import yaml

from harness import grids
from harness.cli import _parser
from tests.conftest import REPOSITORY
from tests.newcomer.readme import commands

PAGE = (REPOSITORY / "harness" / "grids" / "clusters.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.S)
JOB = yaml.safe_load(re.search(r"```yaml\n(.*?)```", PAGE, re.S)[1])
SCRIPT = JOB["spec"]["template"]["spec"]["containers"][0]["args"][0]


def test_its_commands_parse() -> None:
    (command,) = commands(PAGE)
    args = _parser().parse_args(command.split()[1:])
    assert args.launcher == "slurm" and "gpus-per-node=8" in args.slurm


@pytest.mark.parametrize("program", [*PROGRAMS, SCRIPT], ids=["ray", "dask", "files", "kubernetes"])
def test_its_programs_use_what_there_is(program: str) -> None:
    used = {
        node.attr
        for node in ast.walk(ast.parse(program))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "grids"
    }
    assert used and used <= set(grids.__all__)
