"""Commands of the README are read whole, and each has a form that runs on toy data."""

from __future__ import annotations

import pytest

from harness.cli import _parser
from tests.newcomer.readme import commands, concrete
from tests.newcomer.slips import SLIPS


def test_commands_are_read_with_continued_lines_and_without_comments() -> None:
    text = "```bash\nharness doctor   # why\nls\nharness run a \\\n    --b 1\n```\n```\nharness no\n```\n"
    assert commands(text) == ["harness doctor", "harness run a --b 1"]


def test_every_command_of_the_readme_parses() -> None:
    found = commands()
    assert {command.split()[1] for command in found} >= {"doctor", "list", "check", "run", "predict", "score", "submit"}
    for command in found:
        args = _parser().parse_args(concrete(command))
        assert args.run


def test_a_command_with_a_placeholder_that_is_not_known_is_an_error() -> None:
    with pytest.raises(ValueError, match="has no concrete form"):
        concrete("harness run nlvr2 --backbone …")


def test_slips_parse() -> None:
    for slip in SLIPS:
        assert _parser().parse_args(slip.command.split()).run


def test_results_are_read_where_runs_leave_them() -> None:
    assert concrete("harness results runs --sort value") == ["results", "made", "--sort", "value"]
    assert concrete("harness table overview --results runs")[-1] == "made"
    assert concrete("harness predict vqav2 --data /data --backbone … --weights a.pth").count("--limit") == 0
